"""Tests of the adapters, in the environment that has the frameworks."""
