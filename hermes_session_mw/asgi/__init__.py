"""What speaks ASGI: the middleware, and what reads requests and stamps responses for it."""
