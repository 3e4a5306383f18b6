"""Peers: other stores of conversations, each behind one small adapter of the same shape."""
