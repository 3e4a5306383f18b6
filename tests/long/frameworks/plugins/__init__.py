"""Plugins of pytest that put our classes in the place of the frameworks' own."""
