"""The ASGI side: the middleware, its options, the request's headers and the response's."""
