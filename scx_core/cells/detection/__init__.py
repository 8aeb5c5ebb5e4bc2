"""What a file means: symbols, organism, labels, donors, and whether values are counts."""
