"""Features of two sets, matched by weights, activations and genes."""
