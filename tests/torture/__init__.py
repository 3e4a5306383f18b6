"""Writers that are killed, and a checker that knows what was acknowledged: ``make torture``."""
