"""A circuit in words: whose it is, what it is read against, what its tests found, what its picture says."""
