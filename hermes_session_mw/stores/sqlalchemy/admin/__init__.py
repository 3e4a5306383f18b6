"""What the command does with a whole store, of all owners or of one."""
