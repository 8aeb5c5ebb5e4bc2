"""Commands that test."""
