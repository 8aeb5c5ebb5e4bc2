"""Benchmarks that compare or stress: peers, kills, memory, sparsity; and the check of a real card."""
