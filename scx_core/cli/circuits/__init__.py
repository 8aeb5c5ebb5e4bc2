"""Commands that trace."""
