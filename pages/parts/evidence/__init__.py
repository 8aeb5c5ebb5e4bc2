"""Parts of the evidence page: the measurement, and what it found."""
