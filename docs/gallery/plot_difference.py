"""
Difference of two cell types
============================

Only what has q < 0.05 over all genes, features or edges is called higher on one side.
"""

import scx_core as scx

apart = scx.tl.difference("embedded", "CD19+ B", "Dendritic", n_cells=8)
_ = scx.pl.circuit(apart.difference)
