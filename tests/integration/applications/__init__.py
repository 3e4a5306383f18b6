"""Other people's applications behind the middleware, driven by their own clients."""
