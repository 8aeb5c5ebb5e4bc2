"""
Circuit of one cell, for one column of a journal
================================================

Fewer boxes, words that can be read at 85 mm.
"""

import scx_core as scx

circuit = scx.tl.trace_cell("embedded", 0, nodes=128)
_ = scx.pl.circuit(circuit, size="column")
