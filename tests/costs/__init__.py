"""What operations cost, in counts, and what the benchmarks make of their figures."""
