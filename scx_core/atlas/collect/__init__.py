"""The one pass over cells: units, what is summed of their activations, and the kernels that sum it."""
