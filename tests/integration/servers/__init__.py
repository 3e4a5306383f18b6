"""Real servers over sockets."""
