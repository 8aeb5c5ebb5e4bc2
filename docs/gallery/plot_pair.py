"""
Two cell types side by side
===========================

The same boxes at the same places, so that two circuits can be compared by eye.
"""

import scx_core as scx

apart = scx.tl.difference("embedded", "CD19+ B", "CD14+ Monocyte", n_cells=8)
_ = scx.pl.pair(apart)
