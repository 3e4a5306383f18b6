"""Open WebUI before the demo, with a person before Open WebUI."""
