"""Adapters that keep other frameworks' conversations in a store, each a module of its own.

Nothing here imports a framework, except for the module that is named after it.
"""
