"""Arithmetic on active features alone: compiled kernels, and the same in plain PyTorch."""
