"""Proxies before the middleware, each by the configuration that docs/proxies.md has for it."""
