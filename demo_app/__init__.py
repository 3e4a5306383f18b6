"""A small chat server in the shape of OpenAI's API, to try hermes_session_mw with."""
