"""Intervals and hypothesis tests, each way once."""
