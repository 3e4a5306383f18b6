"""The tables, how they are made, and how those of earlier versions are brought up to date."""
