"""The ASGI middleware, driven with raw scopes: headers, stamps, errors, lifespan, WebSockets."""
