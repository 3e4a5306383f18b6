"""The demo and its page: the wire, a browser, and the clients that people use."""
