"""What is below ``frameworks`` runs where the frameworks are installed: see test_frameworks.py."""

collect_ignore = ["frameworks"]
