"""
Two cell types side by side
===========================

The same boxes at the same places, so that two circuits can be compared by eye.
"""

import scx_core as scx
from scx_core.figures.pair import pair_figure

apart = scx.tl.difference("embedded", "CD19+ B", "CD14+ Monocyte", n_cells=8)
_ = pair_figure(apart)
