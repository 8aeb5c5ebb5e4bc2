"""Commands that read cells."""
