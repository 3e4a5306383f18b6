"""Programs that use a client as its users do, each in an environment of the client's own."""
