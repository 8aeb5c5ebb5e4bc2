"""Intervals and tests, each way once, and the claim that a figure is said in."""
