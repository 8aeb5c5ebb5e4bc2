"""
Circuit of a cell type
======================

Genes below, the model's features by layer, the answer on top; a link's width is its share of what
goes into its target.
"""

import scx_core as scx

circuit = scx.tl.consensus("embedded", "CD19+ B", n_cells=8)
_ = scx.pl.circuit(circuit)
