"""Greedy computational paths, as the seed paper traces them, with an exact account (method §7).

 1. Start with one live path: the gradient of the target, or of a feature.
 2. Expand every live path: candidates are the features, heads, skip terms and the token embedding that it
    reads (path_steps.py); errors and biases end there, unexplained.
 3. Of all candidates keep the `branches` largest in absolute value. A token ends a path; a feature, a head
    or a skip term is the next live path.
 4. Repeat until nothing is live or `depth` is reached; then equal steps of different paths become one node.
A kept step equals the sum of its kept children, of what was pruned, of errors and of biases; so tokens +
open ends + pruned + error + bias are the start's value exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import networkx as nx
import pandas as pd
import torch

from scx_core.attribution.endpoints import Ref, place_of
from scx_core.attribution.path_steps import (
    EMBEDDING,
    FEATURE,
    HEAD,
    SKIP,
    Candidates,
    continued,
    expand,
    start_at,
)
from scx_core.attribution.residual_stream import streams
from scx_core.circuits.feature_names import name_in
from scx_core.circuits.traced_prompt import TracedPrompt
from scx_core.runs.options import check, option, to_dict

StepKind = Literal["target", "feature", "head", "skip", "embedding"]
KINDS: dict[int, StepKind] = {FEATURE: "feature", HEAD: "head", SKIP: "skip", EMBEDDING: "embedding"}
UNEXPLAINED = ("pruned", "error", "bias")


@dataclass(frozen=True)
class PathConfig:
    """How far paths are followed."""

    branches: int = option(128, "Candidates kept at every depth, over all live paths", minimum=1)
    depth: int = option(8, "Steps from the start to the end of a path, at most", minimum=1)

    def __post_init__(self) -> None:
        check(self)


CONFIG, TARGET = PathConfig(), Ref("target")


class PathStep(NamedTuple):
    """A kept step of the tree of paths; `parent` (an index into the steps, −1 at the start) reads it.

    `id` says what it is: f:layer:position:feature, h:layer:head:from:at (a head that attends from the
    reader's position to another, where the path goes on), s:layer:position (a skip term), t:position.
    `contribution`: what it adds to the start's value along its path. `activation`: the part of it that
    depends on this input alone, a feature's z or a head's attention weight. `kept` is the sum of its kept
    children: contribution = kept + pruned + error + bias once it is expanded, else it is an `open` end.
    """

    id: str
    kind: StepKind
    parent: int
    depth: int
    contribution: float
    layer: int | None = None
    position: int | None = None
    feature: int | None = None
    head: int | None = None
    activation: float | None = None
    gene: str | None = None
    token: str | None = None
    kept: float = 0.0
    pruned: float = 0.0
    error: float = 0.0
    bias: float = 0.0
    open: bool = False
    name: str | None = None

    @property
    def words(self) -> str:
        """What it is, for people: "L3·512 HLA- genes at CD74", "head 2.1 CD74", "CD74"."""
        where = self.gene or repr((self.token or "").strip())
        names = {
            "target": "target",
            "feature": f"L{self.layer}·{self.feature} {f'{self.name} ' if self.name else ''}at {where}",
            "head": f"head {self.layer}.{self.head} {where}",
            "skip": f"skip {self.layer} {where}",
        }
        return names.get(self.kind, where)


class Account(NamedTuple):
    """Where the start's value went: tokens + open + pruned + error + bias = value (its unit).

    `explained` = tokens + open ends: the kept paths. `max_relative_error`: largest gap of an expanded step,
    relative to it.
    """

    value: float
    tokens: float
    open: float
    pruned: float
    error: float
    bias: float
    max_relative_error: float

    @property
    def explained(self) -> float:
        """What kept paths make up, whether or not they reach a token."""
        return self.tokens + self.open


class Paths(NamedTuple):
    """The tree of kept steps, the start first. `label` says in words what the start is, in which `unit`."""

    start: str
    label: str
    unit: str
    steps: tuple[PathStep, ...]
    config: PathConfig
    provenance: dict[str, Any]

    def account(self) -> Account:
        """Exact account of the start's value."""
        expanded = [step for step in self.steps if step.kind != "embedding" and not step.open]
        gaps = [
            abs(step.contribution - step.kept - step.pruned - step.error - step.bias)
            / max(abs(step.contribution), 1e-12)
            for step in expanded
        ]
        pruned, error, bias = (sum(getattr(step, name) for step in expanded) for name in UNEXPLAINED)
        return Account(
            self.steps[0].contribution,
            sum(step.contribution for step in self.steps if step.kind == "embedding"),
            sum(step.contribution for step in self.steps if step.open),
            pruned,
            error,
            bias,
            max(gaps, default=0.0),
        )

    def chains(self) -> list[tuple[PathStep, ...]]:
        """Every explained path, from the start to a token or an open end, the largest contribution first."""
        ends = [i for i, step in enumerate(self.steps) if step.open or step.kind == "embedding"]
        ends.sort(key=lambda i: -abs(self.steps[i].contribution))
        return [self._up_to(i) for i in ends]

    def _up_to(self, end: int) -> tuple[PathStep, ...]:
        chain = []
        while end >= 0:
            chain.append(self.steps[end])
            end = self.steps[end].parent
        return tuple(reversed(chain))

    def genes(self) -> pd.DataFrame:
        """Contribution of each gene over the kept paths that end at its tokens: gene, contribution, paths."""
        ends = [step for step in self.steps if step.kind == "embedding" and step.gene]
        table = pd.DataFrame(
            [(step.gene, step.contribution) for step in ends], columns=["gene", "contribution"]
        )
        sums = table.groupby("gene")["contribution"].agg(contribution="sum", paths="size").reset_index()
        return sums.sort_values("contribution", key=abs, ascending=False, ignore_index=True)

    def subgraph(self) -> nx.DiGraph:
        """The paths merged: equal steps are one node, edges run towards the start with the sum of what the
        paths over them contribute (`weight`). What a node leaves unexplained is on it: pruned, error, bias,
        open; its contribution is the sum of these and of its incoming edges (a token's has no parts)."""
        graph = nx.DiGraph(start=self.start, label=self.label)
        for step in self.steps:
            if step.id not in graph:
                fixed = step._asdict()
                kept = ("kind", "layer", "position", "feature", "head", "activation", "gene", "token")
                sums = dict.fromkeys(("contribution", *UNEXPLAINED, "open"), 0.0)
                graph.add_node(step.id, **{key: fixed[key] for key in kept}, **sums)
            node = graph.nodes[step.id]
            for key in ("contribution", *UNEXPLAINED):
                node[key] += getattr(step, key)
            node["open"] += step.contribution if step.open else 0.0
            if step.parent >= 0:
                reader = self.steps[step.parent].id
                before = graph.get_edge_data(step.id, reader, {"weight": 0.0})["weight"]
                graph.add_edge(step.id, reader, weight=before + step.contribution)
        return graph

    def frame(self) -> pd.DataFrame:
        """One row a step, in the order of the tree."""
        return pd.DataFrame([step._asdict() for step in self.steps])

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`: steps with their parents, and the account."""
        return {
            "start": self.start,
            "label": self.label,
            "unit": self.unit,
            "account": self.account()._asdict() | {"explained": self.account().explained},
            "steps": [step._asdict() for step in self.steps],
            "config": to_dict(self.config),
            "provenance": self.provenance,
        }


def _largest(found: Candidates, most: int) -> Candidates:
    """The `most` largest candidates in absolute value, over all live paths; none that is 0."""
    size_M = found.contribution_M.abs()
    kept = torch.argsort(size_M, descending=True, stable=True)[:most]
    return Candidates(*(column[kept[size_M[kept] > 0]] for column in found))


def _steps(
    prompt: TracedPrompt, kept: Candidates, at_P: Sequence[int], parent_P: Sequence[int], depth: int
) -> list[PathStep]:
    """Kept candidates as steps. `at_P`, `parent_P`: position and step of the paths that read them."""
    frozen, out = prompt.frozen, []
    for path, kind, layer, item, position, contribution in zip(*(c.tolist() for c in kept), strict=True):
        common = {
            "parent": parent_P[path],
            "depth": depth,
            "contribution": contribution,
            "position": position,
        }
        common |= {"token": prompt.tokens[position], "gene": prompt.genes[position]}
        if kind == FEATURE:
            f = frozen.layers[layer]
            number, value = int(f.feature_N[item]), float(f.value_N[item])
            name = f"f:{layer}:{position}:{number}"
            step = PathStep(name, "feature", layer=layer, feature=number, activation=value, **common)
            step = step._replace(name=name_in(prompt.names, layer, number))
        elif kind == HEAD:
            at = at_P[path]
            weight = float(frozen.layers[layer].pattern_HTT[item, at, position])
            name = f"h:{layer}:{item}:{at}:{position}"
            step = PathStep(name, "head", layer=layer, head=item, activation=weight, **common)
        elif kind == SKIP:
            step = PathStep(f"s:{layer}:{position}", "skip", layer=layer, **common)
        else:
            step = PathStep(f"t:{position}", "embedding", **common)
        out.append(step._replace(open=kind != EMBEDDING))
    return out


def _start_step(prompt: TracedPrompt, ref: Ref) -> PathStep:
    if ref.kind == "target":
        at = int(prompt.target.position_R[-1])
        return PathStep(
            "target", "target", -1, 0, prompt.value, position=at, token=prompt.tokens[at], open=True
        )
    layer = prompt.frozen.layers[ref.layer]
    value = float(layer.value_N[place_of(prompt.frozen, ref)])
    step = PathStep(ref.id, "feature", -1, 0, value, activation=value, open=True)
    step = step._replace(layer=ref.layer, position=ref.position, feature=ref.feature)
    step = step._replace(name=name_in(prompt.names, ref.layer, ref.feature))
    return step._replace(token=prompt.tokens[ref.position], gene=prompt.genes[ref.position])


def _read(step: PathStep, parts: Sequence[float]) -> PathStep:
    """The step with what one live path of it reads added: kept, pruned, error, bias. A target that reads at
    several positions has a path for each."""
    names = ("kept", *UNEXPLAINED)
    sums = {name: getattr(step, name) + part for name, part in zip(names, parts, strict=True)}
    return step._replace(open=False, **sums)


@torch.no_grad()
def trace_paths(prompt: TracedPrompt, start: Ref = TARGET, cfg: PathConfig = CONFIG) -> Paths:
    """Follow the largest paths down from the target or from a feature's pre-activation.

    Raises ScxError when the feature is not active in this prompt.
    """
    steps, stream = [_start_step(prompt, start)], streams(prompt.frozen)
    live = start_at(prompt.frozen, start, prompt.target, prompt.target_bias)
    for depth in range(1, cfg.depth + 1):
        found = expand(prompt.frozen, stream, live, cfg.branches)
        kept = _largest(found.candidates, cfg.branches)
        kept_P = torch.zeros_like(found.offered_P).index_add_(0, kept.path_M, kept.contribution_M.double())
        parents = live.step_P.tolist()
        sums = (kept_P, found.offered_P - kept_P, found.error_P, found.bias_P)
        for step, *parts in zip(parents, *(column.tolist() for column in sums), strict=True):
            steps[step] = _read(steps[step], parts)
        numbers = torch.arange(len(kept.path_M), device=live.step_P.device) + len(steps)
        steps += _steps(prompt, kept, live.position_P.tolist(), parents, depth)
        live = continued(prompt.frozen, live, kept, numbers)
        if not len(live.step_P):
            break
    label = prompt.label if start.kind == "target" else f"pre-activation of {start.id}"
    unit = prompt.unit if start.kind == "target" else "of pre-activation"
    return Paths(start.id, label, unit, tuple(steps), cfg, prompt.provenance)
