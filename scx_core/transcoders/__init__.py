"""Transcoders: sparse stand-ins for the MLPs of a language model, trained, saved and loaded.

In come a model that can be tapped and a table of cells; out comes a `TranscoderSet` in a folder that
circuit-tracer can read too. Training runs in a `RunFolder` and survives a kill.
"""

from scx_core.transcoders.cross_layer import CrossLayerSet
from scx_core.transcoders.layouts import EMBEDDED_SETS, load_set, save_set
from scx_core.transcoders.module import Active, Form, Transcoder, TranscoderSet
