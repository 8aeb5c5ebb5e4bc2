"""scX: which genes, and which internal steps, made a single-cell language model call a cell what it did.

Data flows one way: h5ad → cells → sentences → tokens with gene spans → activations → transcoders →
{validation, circuit} → figures and exports. Each step is a room that imports only rooms before it.
"""

import os

__version__ = "0.1.0"

# PyTorch's threads wait for their next task by spinning; the compiled loops in between need those cores. Read
# by the OpenMP library when it is loaded: without effect where PyTorch was imported before.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
