"""Gene sets: read from any source, held against the genes of some data, tested against each feature."""
