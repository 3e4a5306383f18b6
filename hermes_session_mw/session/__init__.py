"""One request's session: the conversation it loads, what it stores, and its turn."""
