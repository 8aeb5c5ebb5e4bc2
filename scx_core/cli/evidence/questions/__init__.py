"""The questions of `scx evidence`, one module each; the command finds them here by name."""
