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
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from scx_core import __version__
from scx_core.circuits.circuit import Circuit
from scx_core.errors import ScxError
from scx_core.figures import words
from scx_core.runs.files import to_json_text

from .neuronpedia_nodes import context_of, format_ids, format_nodes, no_markup, shown

PINNED = 10  # features, and genes, that the viewer's small graph shows at first


def to_neuronpedia(circuit: Circuit, labels: Mapping[str, str] | None = None) -> bytes:
    """`neuronpedia_graph` as a file."""
    return (to_json_text(neuronpedia_graph(circuit, labels), indent=1) + "\n").encode("utf-8")


def neuronpedia_graph(circuit: Circuit, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The graph. `labels` names features by "layer·feature" ("L2·513") or by node id.

    Raises ScxError for what no traced circuit holds: two nodes that would get one id, a feature without a
    layer, a position outside any prompt, an edge to a node that is not there.
    """
    context = context_of(circuit)
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
    return {
        "slug": _slug(circuit),
        "scan": _scan(circuit.provenance.get("model")),
        "transcoder_list": [],
        "prompt_tokens": prompt_tokens,
        "prompt": " ".join(prompt_tokens) if made_up else "".join(prompt_tokens),
        "node_threshold": 1.0,
        "schema_version": 1,
        "info": {
            "description": shown(words.caption(circuit), 1000),
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


def _slug(circuit: Circuit) -> str:
    """Lower-case letters, digits and hyphens, with a hash: two circuits of one cell type do not share it."""
    name = re.sub(r"[^a-z0-9]+", "-", words.title(circuit).lower())[:40].strip("-") or "circuit"
    scope = "cell" if circuit.scope == "cell" else f"{circuit.scope}-{circuit.n_cells}-cells"
    return f"{name}-{scope}-{circuit.fingerprint[:8]}"
