"""Circuits: the frozen replacement model of a prompt, exact edges, influence, cuts, consensus.

In come a model, its transcoders and one prompt or many; out come `Circuit`s with signed edges, gene
effects, scores and their own accounting. All maths is in method §4 to §8.
"""

from scx_core.circuits.api import Tracer, make_tracer
from scx_core.circuits.circuit import SCHEMA_VERSION, Circuit, Edge, GeneEffect, Node, Target
from scx_core.circuits.compare import compare_models, compare_types
from scx_core.circuits.config import ConsensusConfig, TraceConfig
from scx_core.circuits.edge_heads import circuit_edge_heads, circuit_heads, strongest_edges
from scx_core.circuits.feature_links import feature_links
from scx_core.circuits.paths import PathConfig, trace_paths
from scx_core.circuits.saved import Origin, origins, parse_circuit, read_circuit
from scx_core.circuits.scene import scene_of_row

__all__ = [
    "SCHEMA_VERSION",
    "Circuit",
    "ConsensusConfig",
    "Edge",
    "GeneEffect",
    "Node",
    "Origin",
    "PathConfig",
    "Target",
    "TraceConfig",
    "Tracer",
    "circuit_edge_heads",
    "circuit_heads",
    "compare_models",
    "compare_types",
    "feature_links",
    "make_tracer",
    "origins",
    "parse_circuit",
    "read_circuit",
    "scene_of_row",
    "strongest_edges",
    "trace_paths",
]
