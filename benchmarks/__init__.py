"""Benchmarks that compare or stress, beside the package: peers, kills, memory, sparsity; and the check of a real card."""
