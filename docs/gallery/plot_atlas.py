"""
Verdicts of an atlas beside random directions
=============================================

A share of features says nothing alone: random directions get verdicts too.
"""

import scx_core as scx

atlas = scx.tl.atlas("embedded", n_cells=24, random=2, baseline=False, context=0)
_ = scx.pl.atlas(atlas)
