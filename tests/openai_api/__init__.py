"""The wire of OpenAI's APIs."""
