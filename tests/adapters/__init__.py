"""Tests of what keeps other frameworks' conversations."""
