"""What the frameworks' own stores do, and ours: a module for each framework."""
