"""What a traced circuit is: nodes, signed edges, gene effects, and how to read it back from JSON.

The JSON is the project's native graph format; `SCHEMA_VERSION` grows when a key changes its meaning.
Two scopes share it: `cell` (one prompt, nodes have positions) and `consensus` (many cells of one type,
positions are dropped and genes take their place).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

SCHEMA_VERSION = 1
NodeKind = Literal["embedding", "feature", "error", "bias", "target"]


class Target(NamedTuple):
    """What is explained: a weighted sum of logits at one position, or a feature's pre-activation (method §4).

    `coefficients` maps a token id to its weight. `label` is the wording for people, `answer` the cell
    type, `against` the competitors that the contrast covers at this decision token, `teacher_forced`
    the answer tokens that stand in the prompt before it. `value` is the target's value in logits.
    `vocabulary_mean` is the weight of the mean logit over the whole vocabulary (−1 for a centred logit).
    `kind` is contrast, logit, logprob, token or feature; `answer` is empty for the last two. A `logprob` has
    weights of its own at each prompt beside its coefficient (target.py); a feature has `layer` and `feature`.
    """

    label: str
    answer: str
    position: int | None
    coefficients: dict[int, float]
    against: tuple[str, ...] = ()
    teacher_forced: tuple[str, ...] = ()
    value: float = 0.0
    kind: str = "contrast"
    vocabulary_mean: float = 0.0
    layer: int | None = None
    feature: int | None = None

    @property
    def unit(self) -> str:
        """The unit of `value`. A log-probability is in nats, and so is a difference of logits."""
        return {"logprob": "nats", "feature": "of pre-activation"}.get(self.kind, "logits")


class Node(NamedTuple):
    """One node. `activation`: the value it has in the cell (a feature's z, the target's logits).

    `influence`: share of the target's input that flows through it (method §6), on the unpruned graph.
    `effect`: signed total effect on the target in logits, over all paths. In a consensus, `activation`,
    `influence` and `effect` are means over all cells (0 where a cell's circuit does not hold the node),
    `share` is the share of cells that hold it, `n_cells` their number, `sd` that of `effect` over all.
    `gene` is the gene of the token, or, where a feature fires outside the genes, the gene whose tokens add
    most to it over all paths; in a consensus, the gene with most of the feature's activation in these cells.
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


class Edge(NamedTuple):
    """Direct edge of the frozen replacement model: setting `source` to 0 changes `target` by −weight.

    In a consensus `weight` and `sd` are over all cells (0 where a cell's circuit lacks the edge).
    """

    source: str
    target: str
    weight: float
    share: float = 1.0
    sd: float = 0.0


class GeneEffect(NamedTuple):
    """Total effect of a gene on the target, in logits, summed over the tokens of its span (method §8).

    `rank` is the place in the cell sentence (1 = highest; the mean over the cells that hold the gene in a
    consensus), `n_cells` the cells whose sentence holds the gene, `share` the same as a share. In a
    consensus `effect` and `sd` are over all cells, 0 where the gene is absent, so `effect / share` is the
    mean where it is present; `low` and `high` are a 95% bootstrap interval of `effect` over cells.
    """

    gene: str
    effect: float
    rank: float
    n_cells: int = 1
    sd: float = 0.0
    share: float = 1.0
    low: float | None = None
    high: float | None = None


class Circuit(NamedTuple):
    """A traced circuit with everything that a figure, a table or a stranger's check needs.

    `scores`: replacement, completeness, error_share, bias_share … (method §6). `accounting`: the largest
    relative error of Σ incoming edges against the value they must add up to. `sentence`: the genes of
    the traced cell in order (empty for a consensus).
    """

    scope: Literal["cell", "consensus"]
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

    def node(self, node_id: str) -> Node:
        """The node with this id. Raises KeyError when there is none."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`; `from_json` gives back an equal circuit."""
        out: dict[str, Any] = {"schema_version": SCHEMA_VERSION} | self._asdict()
        out["target"] = self.target._asdict() | {
            "coefficients": {str(token): weight for token, weight in self.target.coefficients.items()}
        }
        for key in ("genes", "nodes", "edges"):
            out[key] = [row._asdict() for row in out[key]]
        return out

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Circuit:
        """Rebuild from `to_json`. Raises KeyError or TypeError when keys are missing or unknown."""
        rest = {k: v for k, v in data.items() if k != "schema_version"}
        target = dict(rest.pop("target"))
        target["coefficients"] = {int(k): float(v) for k, v in target["coefficients"].items()}
        for key in ("against", "teacher_forced"):
            target[key] = tuple(target[key])
        for key, row in (("genes", GeneEffect), ("nodes", Node), ("edges", Edge)):
            rest[key] = tuple(row(**item) for item in rest[key])
        for key in ("token_ids", "tokens", "sentence"):
            rest[key] = tuple(rest[key])
        return cls(target=Target(**target), **rest)
