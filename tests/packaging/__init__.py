"""The package as it is published: its layers, names, types, files and workflows."""
