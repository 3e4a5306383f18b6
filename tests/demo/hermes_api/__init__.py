"""Hermes Agent's own API server beside the demo."""
