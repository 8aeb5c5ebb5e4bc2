"""Circuits: the frozen replacement model of a prompt, exact edges, influence, cuts, consensus.

In come a model, its transcoders and one prompt or many; out come `Circuit`s with signed edges, gene
effects, scores and their own accounting. All maths is in method §4 to §8.
"""

from scx_core.circuits.api import Tracer, make_tracer
from scx_core.circuits.circuit import SCHEMA_VERSION, Circuit, Edge, GeneEffect, Node, Target
from scx_core.circuits.config import ConsensusConfig, TraceConfig
from scx_core.circuits.saved import Origin, origins, parse_circuit, read_circuit

__all__ = [
    "SCHEMA_VERSION",
    "Circuit",
    "ConsensusConfig",
    "Edge",
    "GeneEffect",
    "Node",
    "Origin",
    "Target",
    "TraceConfig",
    "Tracer",
    "make_tracer",
    "origins",
    "parse_circuit",
    "read_circuit",
]
