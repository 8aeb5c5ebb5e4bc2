"""scX: which genes, and which internal steps, made a single-cell language model call a cell what it did.

Data flows one way: h5ad → cells → sentences → tokens with gene spans → activations → transcoders →
{validation, circuit} → figures and exports. Each step is a room that imports only rooms before it.
"""

__version__ = "0.1.0"
