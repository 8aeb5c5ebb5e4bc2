"""One prompt, frozen: local replacement model, exact edges, node selection, pruning, heads, weights."""
