"""The documentation: its code runs, its links lead somewhere, its tables are whole."""
