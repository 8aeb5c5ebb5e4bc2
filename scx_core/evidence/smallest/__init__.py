"""The fewest features that keep a share of the answer: search, faithfulness, matched controls."""
