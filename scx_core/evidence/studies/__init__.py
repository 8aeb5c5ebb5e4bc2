"""Studies: the same questions asked where the truth, or another study, is at hand."""
