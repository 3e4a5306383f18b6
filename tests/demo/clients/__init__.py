"""The demo, driven by the clients that people use."""
