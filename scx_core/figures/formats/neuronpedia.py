"""A circuit as Neuronpedia's graph JSON, schema_version 1, for its viewer and others that read the format.

What the format has no word for, and how it is written here:
- The target is a weighted sum of logits: one logit node at the decision token stands for it, named by the
  target's label; the weights are in `metadata.scx.target`. The target of a feature is written the same way,
  under the feature's number.
- `influence` of a node is cumulative, as viewers prune by it: nodes in falling order of their influence,
  each with the share of the total that it and those before it hold, over the nodes of this file. So
  `metadata.node_threshold` is 1; how the circuit was cut is in `pruning_settings`.
- The biases are one node, `bias`, in the row of the embeddings at the last token. It has no influence
  (method §6), and is never pruned.
- A consensus (or a difference of two) has no positions. Its context is made up: `(prompt)`, then the genes of
  its nodes by mean rank, then `(answer)`. A feature stands at its gene; the prompt's words, errors and
  features without a gene stand at `(prompt)`. A made-up token's id is its place.
- Supernodes are the circuit's own steps, and each of its strongest genes that has several tokens.
- Names are untrusted and viewers show some of them as markup: < and > become ‹ and ›.

Ids: feature `{layer}_{feature}_{token}`, error `{layer}_-1_{token}`, token `E_{id}_{token}`, target
`{L + 1}_{decision token}_{token}`, biases `bias`. No two nodes share one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from scx_core import __version__
from scx_core.circuits.circuit import Circuit, Node, Target
from scx_core.circuits.feature_names import ANSWER_POSITION
from scx_core.errors import ScxError
from scx_core.figures import captions
from scx_core.figures.drawing.text import plain
from scx_core.runs.files import to_json_text

PROMPT, ANSWER = "(prompt)", "(answer)"
_TWINS = (
    "Trace the circuit again: its own nodes are all different.",
    "A difference of two transcoder sets cannot be such a graph: export one of the two circuits.",
)
MOST_TOKENS = 1_000_000  # no model reads more; a file may say anything
PINNED = 10  # features, and genes, that the viewer's small graph shows at first


def to_neuronpedia(circuit: Circuit, labels: Mapping[str, str] | None = None) -> bytes:
    """`neuronpedia_graph` as a file."""
    return (to_json_text(neuronpedia_graph(circuit, labels), indent=1) + "\n").encode("utf-8")


def neuronpedia_graph(circuit: Circuit, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The graph. `labels` names features by "layer·feature" ("L2·513") or by node id.

    Raises ScxError for what no traced circuit holds: two nodes that would get one id, a feature without a
    layer, a position outside any prompt, an edge to a node that is not there.
    """
    context = _cell_context(circuit) if circuit.scope == "cell" else _made_up_context(circuit)
    ids = format_ids(circuit, context)
    for edge in circuit.edges:
        for end in (edge.source, edge.target):
            if end not in ids:
                raise ScxError(
                    f"An edge of the circuit names the node {end!r}, which it does not hold.",
                    "Trace the circuit again.",
                )
    return {
        "metadata": _with_tests(_metadata(circuit, context.tokens), circuit, ids),
        "qParams": _view(circuit, ids),
        "nodes": format_nodes(circuit, context, ids, labels or {}),
        "links": [
            {"source": ids[edge.source], "target": ids[edge.target], "weight": edge.weight}
            for edge in circuit.edges
        ],
    }


def _with_tests(metadata: dict[str, Any], circuit: Circuit, ids: Mapping[str, str]) -> dict[str, Any]:
    """The metadata with p and q, for which the format has no key: of nodes by id, of links in their order."""
    nodes = {ids[node.id]: {"p": node.p, "q": node.q} for node in circuit.nodes if node.q is not None}
    links = [{"p": edge.p, "q": edge.q} for edge in circuit.edges]
    if not nodes and all(link["q"] is None for link in links):
        return metadata
    return metadata | {"scx": metadata["scx"] | {"tests": {"nodes": nodes, "links": links}}}


def _view(circuit: Circuit, ids: Mapping[str, str]) -> dict[str, Any]:
    """What the viewer's small graph shows at first: target, the circuit's steps, the strongest features, and
    the tokens of the strongest genes."""
    effects = sorted(circuit.genes, key=lambda gene: (-abs(gene.effect), gene.gene))
    genes: dict[str, list[str]] = {gene.gene: [] for gene in effects[:PINNED]}
    for node in circuit.nodes:
        if node.kind == "embedding" and node.gene in genes:
            genes[node.gene].append(ids[node.id])
    features = [node for node in circuit.nodes if node.kind == "feature"]
    features.sort(key=lambda node: (-node.influence, node.id))
    targets = [ids[node.id] for node in circuit.nodes if node.kind == "target"]
    steps = [[shown(step.name, 40), *(ids[m] for m in step.members)] for step in circuit.supernodes]
    spelled = [[shown(gene, 40), *names] for gene, names in genes.items() if len(names) > 1]
    pinned = [*targets, *(ids[node.id] for node in features[:PINNED])]
    pinned += [name for names in genes.values() for name in names]
    pinned += [name for _, *names in steps for name in names]
    return {
        "pinnedIds": list(dict.fromkeys(pinned)),
        "supernodes": [group for group in steps + spelled if len(group) > 1],
        "linkType": "both",
        "clickedId": "",
        "sg_pos": "",
    }


def _metadata(circuit: Circuit, tokens: list[str]) -> dict[str, Any]:
    prompt_tokens = [no_markup(token) for token in tokens]
    made_up = circuit.scope != "cell"
    # lower-case letters, digits and hyphens, with a hash: two circuits of one cell type do not share it
    name = re.sub(r"[^a-z0-9]+", "-", captions.title(circuit).lower())[:40].strip("-") or "circuit"
    scope = "cell" if circuit.scope == "cell" else f"{circuit.scope}-{circuit.n_cells}-cells"
    return {
        "slug": f"{name}-{scope}-{circuit.fingerprint[:8]}",
        "scan": _scan(circuit.provenance.get("model")),
        "transcoder_list": [],
        "prompt_tokens": prompt_tokens,
        "prompt": " ".join(prompt_tokens) if made_up else "".join(prompt_tokens),
        "node_threshold": 1.0,
        "schema_version": 1,
        "info": {
            "description": shown(captions.caption(circuit), 1000),
            "creator_name": "scX",
            "generator": {"name": "scX", "version": __version__},
        },
        **_settings(circuit.provenance.get("config")),
        "scx": {
            "scope": circuit.scope,
            "n_cells": circuit.n_cells,
            "made_up_context": made_up,
            "target": circuit.to_json()["target"],
            "scores": circuit.scores,
            "accounting": circuit.accounting,
            "token_ids": list(circuit.token_ids),
            "provenance": circuit.provenance,
        },
    }


def _settings(config: Any) -> dict[str, dict[str, Any]]:
    """How the circuit was traced and cut, as far as its provenance says."""
    trace = config.get("trace") if isinstance(config, Mapping) else None
    trace = trace if isinstance(trace, Mapping) else {}
    names = {"node_threshold": "node_share", "edge_threshold": "edge_share"}
    cut = {key: trace[name] for key, name in names.items() if isinstance(trace.get(name), (int, float))}
    nodes = trace.get("nodes")
    budget = {"max_feature_nodes": nodes} if isinstance(nodes, int) else {}
    return {"generation_settings": {**trace, **budget}, "pruning_settings": cut}


def _scan(model: Any) -> str:
    name = model.get("name") if isinstance(model, Mapping) else model
    return re.sub(r"[^A-Za-z0-9._-]+", "-", str(name or ""))[:60].strip("-.") or "unknown-model"


class Context(NamedTuple):
    """The prompt that nodes are placed on. `at`: the place of each node by its id."""

    tokens: list[str]
    ids: list[int]
    at: dict[str, int]


def cantor(layer: int, feature: int) -> int:
    """The one number that stands for (layer, feature) in the format."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def shown(text: object, limit: int = 200) -> str:
    """Untrusted text on one line, without anything that a viewer could take for markup."""
    return no_markup(plain(text, limit))


def no_markup(text: str) -> str:
    """`text` with ‹ and › for < and >."""
    return text.replace("<", "‹").replace(">", "›")


def _cell_context(circuit: Circuit) -> Context:
    """The cell's own prompt; nodes without a position (biases) stand at the last token, with the target."""
    held = {node.position: node.token for node in circuit.nodes if node.position is not None}
    length = max(len(circuit.tokens), max(held, default=0) + 1)
    if length > MOST_TOKENS or min(held, default=0) < 0:
        raise ScxError("A node of the circuit stands outside any prompt.", "Trace the circuit again.")
    tokens = [circuit.tokens[t] if t < len(circuit.tokens) else held.get(t) or "" for t in range(length)]
    ids = [circuit.token_ids[t] if t < len(circuit.token_ids) else t for t in range(length)]
    at = {n.id: length - 1 if n.position is None else n.position for n in circuit.nodes}
    return Context(tokens, ids, at)


def _made_up_context(circuit: Circuit) -> Context:
    """Genes instead of tokens, for a circuit without positions."""
    rank = {gene.gene: gene.rank for gene in circuit.genes}
    genes = {node.gene for node in circuit.nodes if node.gene is not None}
    order = sorted(genes, key=lambda gene: (rank.get(gene, float("inf")), gene))
    place = {gene: t + 1 for t, gene in enumerate(order)}
    tokens = [PROMPT, *order, ANSWER]
    at = {node.id: place[node.gene] if node.gene is not None else 0 for node in circuit.nodes}
    last = [n for n in circuit.nodes if n.kind in ("target", "bias") or (n.gene is None and _at_answer(n))]
    at |= {node.id: len(tokens) - 1 for node in last}
    return Context(tokens, list(range(len(tokens))), at)


def _at_answer(node: Node) -> bool:
    return (node.active_at or "").startswith(ANSWER_POSITION)


def format_ids(circuit: Circuit, context: Context) -> dict[str, str]:
    """The id of each node in the format. Raises ScxError when two nodes are the same in its eyes."""
    top = _logit_layer(circuit)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for node in circuit.nodes:
        t = context.at[node.id]
        if node.kind == "feature":
            name = f"{_whole(node, 'layer')}_{_whole(node, 'feature')}_{t}"
        elif node.kind == "error":
            name = f"{_whole(node, 'layer')}_-1_{t}"
        elif node.kind == "embedding":
            name = f"E_{context.ids[t]}_{t}"
        else:
            name = "bias" if node.kind == "bias" else f"{top}_{_target_number(circuit.target)}_{t}"
        if name in taken:
            problem = f"Two nodes of the circuit would both be {name} in a Neuronpedia graph."
            raise ScxError(problem, _TWINS[circuit.scope == "difference"])
        found[node.id] = name
        taken.add(name)
    return found


def _whole(node: Node, field: str) -> int:
    value = getattr(node, field)
    if value is None or value < 0:
        raise ScxError(f"The {node.kind} {node.id[:40]!r} states no {field}.", "Trace the circuit again.")
    return int(value)


def _logit_layer(circuit: Circuit) -> int:
    """L + 1 of the format, L counted up to the highest layer that the circuit holds."""
    layers = [node.layer for node in circuit.nodes if node.layer is not None and node.kind != "target"]
    return max([*layers, circuit.target.layer or 0]) + 2


def _target_number(target: Target) -> int:
    """The explained token, or the number of an explained feature."""
    if target.layer is not None and target.feature is not None:
        return cantor(target.layer, target.feature)
    if target.branches:  # a whole answer: the token at which most of the competitors' probability leaves
        first = max(target.branches, key=lambda branch: max(branch.coefficients.values()) - branch.expected)
        return max(first.coefficients, key=lambda token: first.coefficients[token])
    return max(target.coefficients, key=lambda token: target.coefficients[token], default=0)


def format_nodes(
    circuit: Circuit, context: Context, ids: Mapping[str, str], labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    """All nodes. `labels` names features, see `neuronpedia_graph`."""
    # cumulative share of the influence by node id; biases and targets have none
    rows = [node for node in circuit.nodes if node.kind not in ("bias", "target")]
    rows.sort(key=lambda node: (-node.influence, node.id))
    total = sum(max(0.0, node.influence) for node in rows)
    share, held = {}, 0.0
    for node in rows:
        held += max(0.0, node.influence)
        share[node.id] = min(1.0, held / total) if total > 0 else 1.0
    shared = {"token_prob": 0.0, "is_target_logit": False, "run_idx": 0, "reverse_ctx_idx": 0}
    return [
        {
            "node_id": ids[node.id],
            "ctx_idx": context.at[node.id],
            "influence": share.get(node.id),
            "activation": node.activation if node.kind == "feature" else None,
            **shared,
            **_own_keys(circuit, node, context, labels),
        }
        for node in circuit.nodes
    ]


def _own_keys(circuit: Circuit, node: Node, context: Context, labels: Mapping[str, str]) -> dict[str, Any]:
    """What depends on the kind of a node: number, row, type, and the text that viewers show."""
    t = context.at[node.id]
    if node.kind == "feature":
        layer, feature = _whole(node, "layer"), _whole(node, "feature")
        given = labels.get(node.id) or labels.get(captions.feature_name(node))
        label = captions.feature_title(node, given or node.name or node.gene or node.token)
        label = " · ".join(
            part for part in (label, captions.stands_here(node), captions.driven_by(node)) if part
        )
        # Viewers light up the same feature at other tokens by its jsNodeId, which has no position therefore.
        named = f"{layer}_{feature}-0"
        return _keys(cantor(layer, feature), str(layer), "cross layer transcoder", named, shown(label))
    if node.kind == "error":
        layer = _whole(node, "layer")
        words_of_it = f"reconstruction error of layer {layer}"
        return _keys(-1, str(layer), "mlp reconstruction error", f"{layer}_-1-{t}", words_of_it)
    if node.kind == "embedding":
        label = shown(node.gene or node.name or node.token or context.tokens[t])
        return _keys(t, "E", "embedding", f"E_{context.ids[t]}-{t}", label)
    if node.kind == "bias":
        return _keys(-1, "E", "bias", "bias-0", "biases")
    return _logit_keys(circuit, t)


def _logit_keys(circuit: Circuit, t: int) -> dict[str, Any]:
    number, chance = _target_number(circuit.target), circuit.scores.get("probability")
    # Viewers read the probability behind the first "(p=" and fail on a named logit that has none.
    label = shown(circuit.target.label).replace("(p=", "(p =")
    stated = "unknown" if chance is None else f"{chance:.3g}"
    keys = _keys(number, str(_logit_layer(circuit)), "logit", f"L_{number}-{t}", f"{label} (p={stated})")
    return keys | {"token_prob": chance, "is_target_logit": True}


def _keys(feature: int, layer: str, kind: str, js_id: str, clerp: str) -> dict[str, Any]:
    return {"feature": feature, "layer": layer, "feature_type": kind, "jsNodeId": js_id, "clerp": clerp}
