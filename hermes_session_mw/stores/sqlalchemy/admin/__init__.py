"""What the command needs of a store: operations on the sessions of all owners."""
