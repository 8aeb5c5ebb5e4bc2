"""What a traced circuit is: nodes, signed edges, gene effects, and how to read it back from JSON.

The JSON is the project's native graph format; `SCHEMA_VERSION` grows when a key changes its meaning.
Three scopes share it: `cell` (one prompt, nodes have positions), `consensus` (many cells of one type,
positions are dropped and genes take their place) and `difference` (one consensus less another).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from scx_core.attribution.target import Target
from scx_core.circuits.schema import Misfit, json_schema, read_row
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.runs.files import to_json_text

# 2: a feature has a name and a driver, its gene is where it is active; a target names who is left out
SCHEMA_VERSION = 2
NOTHING = 0.1  # logits or nats: a target, or the genes' part of it, below this leaves nothing to explain
REMEDY = "Give the JSON that `scx trace`, `scx circuit` or the export button wrote."
Scope = Literal["cell", "consensus", "difference"]
NodeKind = Literal["embedding", "feature", "error", "bias", "target"]


class Node(NamedTuple):
    """One node. `activation`: the value it has in the cell (a feature's z, the target's logits).

    `influence`: share of the target's input that flows through it (method §6), on the unpruned graph.
    `effect`: signed total effect on the target in logits, over all paths. In a consensus, `activation`,
    `influence` and `effect` are means over all cells (0 where a cell's circuit does not hold the node),
    `share` is the share of cells that hold it, `n_cells` their number, `sd` that of `effect` over all;
    `low` and `high` are a 95% interval of `effect` over donors or cells, `p` and `q` (Benjamini
    and Hochberg, over all features) test that it is 0, or equal on both sides of a difference.
    `gene` is the gene of the token that the node stands at; in a consensus, the gene that holds at least a
    quarter of the feature's activation in these cells. None elsewhere.
    Of a feature besides (see feature_names.py): `name` says what it is active at, of the kind `name_kind`,
    and stands for `name_share` of its activation; `name_source` is "atlas", "label" (a person gave it) or
    "circuit".
    `active_at`: where it stands in this circuit, whatever the name's source; `active_share`: the share of its
    activation there, in this cell, or in a consensus of what the cells' circuits hold of it.
    `driven_by`: the gene whose tokens add most to it over all paths, `driven_share` of all that tokens add.
    """

    id: str
    kind: NodeKind
    layer: int | None = None
    position: int | None = None
    feature: int | None = None
    gene: str | None = None
    token: str | None = None
    activation: float | None = None
    influence: float = 0.0
    effect: float = 0.0
    share: float = 1.0
    sd: float = 0.0
    n_cells: int = 1
    low: float | None = None
    high: float | None = None
    p: float | None = None
    q: float | None = None
    name: str | None = None
    name_kind: str | None = None
    name_share: float | None = None
    name_source: str | None = None
    active_at: str | None = None
    active_share: float | None = None
    driven_by: str | None = None
    driven_share: float | None = None


class Edge(NamedTuple):
    """Direct edge of the frozen replacement model: setting `source` to 0 changes `target` by −weight.

    In a consensus `weight`, `sd` and the 95% interval `low` to `high` are over all cells (0 where
    a cell's circuit lacks the edge); `p` and `q` as in a node, over all edges.
    """

    source: str
    target: str
    weight: float
    share: float = 1.0
    sd: float = 0.0
    low: float | None = None
    high: float | None = None
    p: float | None = None
    q: float | None = None


LEAST_HOLDERS = 3  # what fewer cells hold leads no ranking of what was measured


class MeasuredMean(NamedTuple):
    """A mean over the `n` cells that hold a gene, with its 95% interval over cells or donors (None
    below two cells).

    `over_all` is the mean over all cells of the circuit, 0 where the gene is absent (what is not there cannot
    be taken out), with its interval: the denominator of `GeneEffect.effect`. None in older files.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    n: int = 1
    over_all: float | None = None
    over_all_low: float | None = None
    over_all_high: float | None = None


class GeneEffect(NamedTuple):
    """The frozen attribution of a gene, `effect`: its total effect on the target in the frozen model, in the
    target's unit, summed over the tokens of its span (method §8). It is not what the model loses without it.

    What it does lose, where that was measured in the real model (scx_core/evidence), before less after: `gap`
    (a neutral gene in its place) and `text` (taken out, the rest moves up), in the target's unit; the same of
    the label's log-odds over whole answers in `gap_log_odds`, `text_log_odds` (nats). `estimate`: the fast
    attribution that predicts `gap` best. Each has the mean over the cells that hold the gene and, as `effect`
    has it, over all cells (`per_cell`).

    `rank` is the place in the cell sentence (1 = highest; the mean over the cells that hold the gene in a
    consensus), `n_cells` the cells whose sentence holds the gene, `share` the same as a share. In a
    consensus `effect` and `sd` are over all cells, 0 where the gene is absent, so `effect / share` is the
    mean where it is present; `low` and `high` are a 95% interval of `effect` over donors or cells,
    `p` and `q` as in a node, over all genes.
    """

    gene: str
    effect: float
    rank: float
    n_cells: int = 1
    sd: float = 0.0
    share: float = 1.0
    low: float | None = None
    high: float | None = None
    p: float | None = None
    q: float | None = None
    gap: MeasuredMean | None = None
    text: MeasuredMean | None = None
    gap_log_odds: MeasuredMean | None = None
    text_log_odds: MeasuredMean | None = None
    estimate: MeasuredMean | None = None

    def per_cell(self, measure: str) -> MeasuredMean | None:
        """What was measured (`gap`, `text`, ...) as the mean over all cells of the circuit, 0 where the gene
        is absent, with its interval; `n` stays the cells that hold it. A file that has only the mean over
        those gives no interval, unless all cells hold it. None where it was not measured."""
        found: MeasuredMean | None = getattr(self, measure)
        if found is None:
            return None
        if found.over_all is not None:
            return MeasuredMean(found.over_all, found.over_all_low, found.over_all_high, found.n)
        return found if self.share >= 1 else MeasuredMean(found.mean * self.share, n=found.n)

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`."""
        row = self._asdict()
        return {key: part._asdict() if isinstance(part, MeasuredMean) else part for key, part in row.items()}


class Supernode(NamedTuple):
    """Features that a person or a proposal takes as one step: its name, and the ids of its nodes."""

    name: str
    members: tuple[str, ...]


@shown
class Circuit(NamedTuple):
    """A traced circuit with everything that a figure, a table or a stranger's check needs.

    `scores`: replacement, completeness, error_share, bias_share … (method §6). `accounting`: the largest
    relative error of Σ incoming edges against the value they must add up to. `sentence`: the genes of
    the traced cell in order (empty for a consensus).
    """

    scope: Scope
    target: Target
    genes: tuple[GeneEffect, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    scores: dict[str, float]
    accounting: dict[str, float]
    provenance: dict[str, Any]
    n_cells: int = 1
    token_ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    sentence: tuple[str, ...] = ()
    supernodes: tuple[Supernode, ...] = ()

    def __repr__(self) -> str:
        whose = "Difference" if self.scope == "difference" else "Circuit"
        return (
            f"<{whose} {self.target.label!r}: {self.scope}, {counted(self.n_cells, 'cell')}, "
            f"{counted(len(self.genes), 'gene')}, {counted(len(self.nodes), 'node')}, "
            f"{counted(len(self.edges), 'edge')}; score {self.target.value:.2f} {self.target.unit}>"
        )

    @property
    def faint(self) -> bool:
        """Whether there is next to nothing to explain: the target's value, or what all genes together add to
        it, is less than NOTHING. Of a feature's target this is not asked: it has units of its own."""
        sizes = (self.target.value, self.scores.get("gene_effect", NOTHING))
        return self.target.kind != "feature" and min(map(abs, sizes)) < NOTHING

    def node(self, node_id: str) -> Node:
        """The node with this id. Raises KeyError when there is none."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`; `from_json` gives back an equal circuit."""
        out: dict[str, Any] = {"schema_version": SCHEMA_VERSION} | self._asdict()
        branches = [_by_text(branch._asdict()) for branch in self.target.branches]
        out["target"] = _by_text(self.target._asdict()) | {"branches": branches}
        for key in ("genes", "nodes", "edges", "supernodes"):
            out[key] = [row._asdict() for row in out[key]]
        out["genes"] = [row.to_json() for row in self.genes]
        return out

    @property
    def fingerprint(self) -> str:
        """sha256 of the record: equal circuits have equal ones."""
        return hashlib.sha256(to_json_text(self.to_json()).encode("utf-8", "replace")).hexdigest()

    @classmethod
    def from_json(cls, data: Any, name: str = "The record") -> Circuit:
        """Rebuild from `to_json`, from whoever wrote it; `name` is what errors call it.

        Raises ScxError that names the place: for a newer schema, a key that is missing or unknown, a value of
        another type, NaN or an infinity, two nodes of one id, an edge twice or to a node that is not there.
        """
        try:
            circuit = read_row(cls, _without_version(data, name))
            _check_graph(circuit)
            if data["schema_version"] == 1:
                circuit = _since_1(circuit)
        except Misfit as found:
            raise ScxError(f"{name} holds no circuit that can be read: {found}.", REMEDY) from found
        return circuit


def circuit_schema() -> dict[str, Any]:
    """JSON Schema of what `Circuit.to_json` writes, in this version's format."""
    schema = json_schema(Circuit)
    whole = schema["$defs"]["Circuit"]
    whole["properties"] = {"schema_version": {"const": SCHEMA_VERSION}} | whole["properties"]
    whole["required"] = ["schema_version", *whole["required"]]
    return schema | {"title": f"scX circuit, format {SCHEMA_VERSION}"}


def _by_text(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose token ids are texts, as keys are in JSON."""
    return row | {"coefficients": {str(token): weight for token, weight in row["coefficients"].items()}}


def _without_version(data: Any, name: str) -> dict[str, Any]:
    """The record less its `schema_version`. Raises Misfit without one, ScxError for a newer one."""
    version = data.get("schema_version") if isinstance(data, Mapping) else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise Misfit("states no schema_version")
    if version > SCHEMA_VERSION:
        raise ScxError(
            f"{name} has the circuit format {version}; this version of scX reads up to {SCHEMA_VERSION}.",
            "Update scX, or export the circuit again with this version.",
        )
    found = {key: value for key, value in data.items() if key != "schema_version"}
    scores = found.get("scores")
    if version == 1 and isinstance(scores, Mapping):
        # In format 1 it said that one token was preferred, which is not that the answer was given.
        found["scores"] = {"token_preferred" if key == "called" else key: x for key, x in scores.items()}
    return found


def _since_1(circuit: Circuit) -> Circuit:
    """A circuit of format 1, in which the gene of a feature outside the genes was what drives it.

    In one cell the two are told apart by the node's place: the genes stand together. In a consensus they were
    mixed: a feature has no gene and no name then, until an atlas gives it one.
    """
    held = {node.position or 0 for node in circuit.nodes if node.kind == "embedding" and node.gene}
    first, last = min(held, default=0), max(held, default=-1)

    def mended(node: Node) -> Node:
        if node.kind != "feature" or node.gene is None:
            return node
        if circuit.scope != "cell":
            return node._replace(gene=None)
        if node.position is not None and first <= node.position <= last:
            return node._replace(name=node.gene, name_kind="gene", name_source="circuit", active_at=node.gene)
        return node._replace(gene=None, driven_by=node.gene)

    return circuit._replace(nodes=tuple(map(mended, circuit.nodes)))


def _check_graph(circuit: Circuit) -> None:
    """Raise Misfit when ids, edges or shares do not make a graph."""
    known: set[str] = set()
    for place, node in enumerate(circuit.nodes):
        if node.id in known:
            raise Misfit(f"has the id {node.id[:40]!r}, as another node", f"nodes[{place}]")
        known.add(node.id)
        for field in ("layer", "position", "feature"):
            if not 0 <= (getattr(node, field) or 0) < 2**31:
                raise Misfit("is none that a model has", f"nodes[{place}].{field}")
    owned: set[str] = set()
    for place, supernode in enumerate(circuit.supernodes):
        for member in supernode.members:
            if member not in known or member in owned:
                raise Misfit(f"holds {member[:40]!r}, which is no node or in another", f"supernodes[{place}]")
            owned.add(member)
    joined: set[tuple[str, str]] = set()
    for place, edge in enumerate(circuit.edges):
        for end in (edge.source, edge.target):
            if end not in known:
                raise Misfit(f"names the node {end[:40]!r}, which is not there", f"edges[{place}]")
        if (edge.source, edge.target) in joined:
            raise Misfit("joins the same nodes as another edge", f"edges[{place}]")
        joined.add((edge.source, edge.target))
    shares = {name: [row.share for row in getattr(circuit, name)] for name in ("genes", "nodes", "edges")}
    for name, rows in shares.items():
        for place, share in enumerate(rows):
            if not -1e-9 <= share <= 1 + 1e-9:  # it may be a sum of 1/n
                raise Misfit("is not between 0 and 1", f"{name}[{place}].share")


class Origin(NamedTuple):
    """What a circuit was made from. `part` is data, model or transcoders; `same`: it is what is in use now,
    by its fingerprint; None when one of the two is not known."""

    part: str
    name: str
    fingerprint: str
    same: bool | None


def read_circuit(path: Path | str) -> Circuit:
    """The circuit in a JSON file. Raises ScxError when there is none."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ScxError(f"{path} could not be read: {error.strerror}.", "Check the path.") from error
    return parse_circuit(content, str(path))


def parse_circuit(content: bytes, name: str, most_bytes: int | None = None) -> Circuit:
    """The circuit in the content of a file called `name`, whoever wrote it.

    Raises ScxError when it is longer than `most_bytes`, no JSON, or no circuit (see `Circuit.from_json`).
    """
    shown = name[-80:]
    if most_bytes is not None and len(content) > most_bytes:
        problem = f"{shown} has {len(content) / 1e6:.0f} MB; at most {most_bytes / 1e6:.0f} MB are read."
        raise ScxError(problem, "Trace it with fewer nodes, or open it with `scx export`.")
    try:
        data = json.loads(content)
    # A number of thousands of digits is a plain ValueError, as broken JSON and broken UTF-8 are.
    except (ValueError, RecursionError) as error:
        raise ScxError(f"{shown} is not valid JSON ({str(error)[:120]}).", REMEDY) from error
    return Circuit.from_json(data, shown)


def origins(provenance: Mapping[str, Any], in_use: Mapping[str, str]) -> tuple[Origin, ...]:
    """Data, model and transcoders of a circuit beside those in use, whose fingerprints `in_use` gives.

    A part that the provenance does not state has an empty name and fingerprint.
    """
    found = []
    for part in ("data", "model", "transcoders"):
        stated = provenance.get(part)
        record: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {"name": stated or ""}
        mark, now = str(record.get("fingerprint") or ""), in_use.get(part, "")
        same = mark == now if mark and now else None
        found.append(Origin(part, str(record.get("name") or ""), mark, same))
    return tuple(found)
