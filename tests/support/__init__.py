"""Servers, proxies, applications and data that the tests use."""
