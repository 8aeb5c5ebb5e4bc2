"""
Strongest genes with intervals
==============================

What raises the answer and what lowers it; known markers have a star.
"""

import scx_core as scx

circuit = scx.tl.consensus("embedded", "CD14+ Monocyte", n_cells=8)
_ = scx.pl.genes(circuit, n=10)
