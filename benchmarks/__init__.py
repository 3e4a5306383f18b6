"""Benchmarks: this package beside its peers and beside the floor, in one interleaved run."""
