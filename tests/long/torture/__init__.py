"""Writers, what befalls them, and a checker that knows what was acknowledged: ``make torture``."""
