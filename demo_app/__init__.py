"""A thin chat server in the OpenAI shape, for trying hermes_session_mw by hand."""
