"""The command ``hermes-sessions``."""
