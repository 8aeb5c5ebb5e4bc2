"""Circuits: the frozen replacement model of a prompt, exact edges, influence, cuts, consensus.

In come a model, its transcoders and one prompt or many; out come `Circuit`s with signed edges, gene
effects, scores and their own accounting. All maths is in method §4 to §8.
"""

from scx_core.circuits.circuit import (
    SCHEMA_VERSION,
    Circuit,
    Edge,
    GeneEffect,
    Node,
    Origin,
    Target,
    origins,
    parse_circuit,
    read_circuit,
)
from scx_core.circuits.connection_tables import feature_links
from scx_core.circuits.consensus import ConsensusConfig
from scx_core.circuits.difference import compare_models, compare_types
from scx_core.circuits.head_tables import circuit_edge_heads, circuit_heads, strongest_edges
from scx_core.circuits.paths import PathConfig, trace_paths
from scx_core.circuits.trace import TraceConfig
from scx_core.circuits.traced_prompt import prompt_of_row
from scx_core.circuits.tracer import Tracer, make_tracer
