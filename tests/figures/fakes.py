"""Synthetic circuits with the shape of traced ones: 100 genes of 1–4 tokens, 4 layers, signed edges."""

from __future__ import annotations

import numpy as np

from scx_core.circuits.circuit import Circuit, Edge, GeneEffect, Node, Target
from tests.builders.hostile import HOSTILE_GENE, HOSTILE_LABEL, HOSTILE_TEXTS

B_CELL = ("CD79A", "MS4A1", "HLA-DRA", "CD74", "CD79B", "MZB1", "CD37", "HLA-DQA1", "HLA-DPB1", "LTB")
_OTHERS = """
MALAT1 B2M TMSB4X RPL13 RPS27 RPL10 ACTB RPS12 EEF1A1 FTL FTH1 TPT1 RPL41 TYROBP GNLY NKG7 LYZ S100A9
S100A8 CST3 CTSS FCN1 LST1 AIF1 GZMB PRF1 CCL5 CD3D CD3E CD8A IL7R IL32 PFN1 CFL1 ARPC2 ARPC3 COTL1 OAZ1
UBA52 FAU NACA EIF4A1 HNRNPA1 HSP90AA1 HSPA8 JUNB FOS DUSP1 BTG1 CXCR4 CD52 CORO1A LIMD2 LAPTM5 PTPRC
GAPDH PKM ENO1 LDHB TUBA1B STMN1 HMGB1 HMGB2 NPM1 RAN PCNA SUB1 SRP14 SERF2 ATP5E COX4I1 COX7C UQCRB
NDUFA4 MYL6 MYL12A TAGLN2 VIM ANXA1 S100A4 S100A6 S100A10 CRIP1 LGALS1 EMP3 ITM2B GSTP1 PRDX1 TXN CALM1
"""
PROMPT = ("The", " genes", " of", " a", " cell", ":", " type", " is", ":")
PROVENANCE = {
    "tool": {"name": "scX", "version": "0.1.0"},
    "data": {"name": "pbmc68k_reduced", "fingerprint": "9f2c41aa7be0d1c2"},
    "model": {"name": "pbmc-neox-4x128", "fingerprint": "1b77e0c3aa55"},
    "transcoders": {"name": "topk32", "fingerprint": "77aa01bcdeff"},
    "seed": 0,
}
TARGET = Target(
    label="B cell: logit of “ B” − mean of the competitors",
    answer="CD19+ B",
    position=254,
    coefficients={33: 1.0, 41: -0.5, 52: -0.5},
    against=("CD56+ NK", "CD14+ Monocyte"),
    teacher_forced=(" CD",),
    value=6.4,
)
SCORES = {"replacement": 0.87, "completeness": 0.93, "error_share": 0.12, "bias_share": 0.04}


def cell_circuit(seed: int = 0, n_genes: int = 100, n_layers: int = 4, n_features: int = 60) -> Circuit:
    """One cell: ~2.4 tokens a gene, features at gene tokens and at the last tokens, errors and a bias."""
    rng = np.random.default_rng(seed)
    genes = _gene_order(rng, n_genes)
    tokens, gene_of = _tokens(rng, genes)
    positions = [p for p, gene in enumerate(gene_of) if gene is not None]
    pull = _gene_pull(rng, genes)
    nodes = [
        Node(f"E{p}", "embedding", position=p, gene=gene_of[p], token=tokens[p], activation=1.0)
        for p in range(len(tokens))
        if gene_of[p] is None or rng.random() < 0.8
    ]
    chance = np.array([0.15 + abs(pull[gene_of[p]]) for p in positions])
    for index in range(n_features):
        layer = int(rng.integers(n_layers))
        last = layer >= n_layers // 2 and rng.random() < 0.45
        position = len(tokens) - 1 if last else int(rng.choice(positions, p=chance / chance.sum()))
        feature = int(rng.integers(1024))
        nodes.append(
            Node(
                f"F{layer}_{feature}_{position}_{index}",
                "feature",
                layer,
                position,
                feature,
                gene_of[position],
                tokens[position],
                float(rng.gamma(2.0, 0.8)),
            )
        )
    nodes += [
        Node(f"X{layer}_{p}", "error", layer, p)
        for layer in range(n_layers)
        for p in (positions[0], len(tokens) - 1)
    ]
    nodes += [
        Node("bias", "bias"),
        Node("target", "target", n_layers, TARGET.position, activation=TARGET.value, influence=1.0),
    ]
    edges = _edges(rng, nodes, pull, n_in=9)
    nodes = _with_influence(nodes, edges)
    rank = {gene: index + 1 for index, gene in enumerate(genes)}
    effects = tuple(
        GeneEffect(gene, float(pull[gene]), rank[gene]) for gene in sorted(genes, key=lambda g: -abs(pull[g]))
    )
    return Circuit(
        "cell",
        TARGET,
        effects,
        tuple(nodes),
        tuple(edges),
        SCORES,
        {"max_relative_error": 2e-6},
        PROVENANCE,
        1,
        tuple(range(len(tokens))),
        tuple(tokens),
        tuple(genes),
    )


def consensus_circuit(seed: int = 1, n_cells: int = 30, n_layers: int = 4, n_features: int = 60) -> Circuit:
    """Many cells: no positions, one node a gene and a feature, shares and deviations."""
    rng = np.random.default_rng(seed)
    genes = _gene_order(rng, 100)
    pull = _gene_pull(rng, genes)
    share = {gene: float(np.clip(rng.beta(4, 2), 1 / n_cells, 1)) for gene in genes}
    nodes = [
        Node(f"G_{gene}", "embedding", gene=gene, share=share[gene], n_cells=round(share[gene] * n_cells))
        for gene in genes[:70]
    ]
    nodes.append(Node("prompt", "embedding", token="prompt"))
    chance = np.array([0.1 + abs(pull[gene]) for gene in genes])
    for index in range(n_features):
        layer = int(rng.integers(n_layers))
        gene = None if layer >= 2 and rng.random() < 0.3 else str(rng.choice(genes, p=chance / chance.sum()))
        held = float(np.clip(rng.beta(3, 2), 1 / n_cells, 1))
        feature = 17 * index + 3
        nodes.append(
            Node(
                f"F{layer}_{feature}",
                "feature",
                layer,
                None,
                feature,
                gene,
                None,
                float(rng.gamma(2, 0.8)),
                share=held,
                sd=0.1,
                n_cells=round(held * n_cells),
            )
        )
    nodes += [Node(f"X{layer}", "error", layer) for layer in range(n_layers)]
    nodes += [
        Node("bias", "bias"),
        Node("target", "target", n_layers, activation=TARGET.value, influence=1.0),
    ]
    edges = [
        edge._replace(share=float(rng.uniform(0.2, 1)), sd=abs(edge.weight) / 3)
        for edge in _edges(rng, nodes, pull, n_in=9)
    ]
    nodes = _with_influence(nodes, edges)
    effects = tuple(
        GeneEffect(
            gene,
            float(pull[gene]),
            float(index + 1 + rng.normal(0, 0.3)),
            round(share[gene] * n_cells),
            0.15 + abs(float(pull[gene])) / 4,
            share[gene],
            float(pull[gene]) - 0.2 * abs(float(pull[gene])) - 0.03,
            float(pull[gene]) + 0.2 * abs(float(pull[gene])) + 0.03,
        )
        for index, gene in enumerate(genes)
    )
    return Circuit(
        "consensus",
        TARGET._replace(position=None),
        tuple(sorted(effects, key=lambda g: -abs(g.effect))),
        tuple(nodes),
        tuple(edges),
        SCORES,
        {"max_relative_error": 3e-6},
        PROVENANCE,
        n_cells,
    )


def wide_circuit(n_genes: int, n_features: int, n_in: int, n_layers: int = 6, seed: int = 4) -> Circuit:
    """Of many cells, everything joined to the answer: each feature reads `n_in` boxes below it, and what
    nothing reads is read by the answer. As many boxes can be drawn as there are genes and features."""
    rng = np.random.default_rng(seed)
    nodes = [Node(f"G_{index}", "embedding", gene=f"GENE{index}", share=1.0) for index in range(n_genes)]
    nodes += [
        Node(f"F{layer}_{index}", "feature", layer, None, index, f"GENE{rng.integers(n_genes)}", share=1.0)
        for index, layer in enumerate(sorted(rng.integers(n_layers, size=n_features)))
        for layer in [int(layer)]
    ]
    edges = []
    for node in nodes[n_genes:]:
        below = [n.id for n in nodes if n.kind == "embedding" or n.layer < node.layer]
        read = rng.choice(len(below), size=min(n_in, len(below)), replace=False)
        edges += [Edge(below[index], node.id, float(rng.normal()), share=1.0) for index in read]
    kept = {edge.source for edge in edges}
    edges += [Edge(n.id, "target", float(rng.normal()), share=1.0) for n in nodes if n.id not in kept]
    nodes.append(Node("target", "target", n_layers, activation=TARGET.value, influence=1.0))
    effects = tuple(GeneEffect(n.gene, float(rng.normal()), 1.0, 30) for n in nodes if n.kind == "embedding")
    scene = (SCORES, {"max_relative_error": 3e-6}, PROVENANCE, 30)
    nodes = _with_influence(nodes, edges)
    return Circuit("consensus", TARGET._replace(position=None), effects, tuple(nodes), tuple(edges), *scene)


def named(circuit: Circuit, name: str = "HLA- genes", driver: str = "MZB1") -> Circuit:
    """The circuit with features that are called after one thing and driven by another."""
    nodes = (
        node._replace(
            name=name, name_kind="family", name_share=0.62, name_source="atlas",
            active_at="answer position", active_share=0.9, driven_by=driver, driven_share=0.06,
        )
        if node.kind == "feature"
        else node
        for node in circuit.nodes
    )  # fmt: skip
    return circuit._replace(
        nodes=tuple(nodes), provenance=circuit.provenance | {"names": "names from atlas pbmc@0123456789ab"}
    )


def hostile_circuit(scope: str = "cell") -> Circuit:
    """A circuit whose genes, names, tokens, target and provenance are all attacks on some renderer."""
    circuit = cell_circuit(3) if scope == "cell" else consensus_circuit(3)
    texts = iter(HOSTILE_TEXTS * 100)
    circuit = circuit._replace(
        nodes=tuple(
            n._replace(name=next(texts), driven_by=next(texts), active_at=HOSTILE_GENE, name_source="x\n<b>")
            if n.kind == "feature" and i % 2
            else n
            for i, n in enumerate(circuit.nodes)
        )
    )
    strongest = [row.gene for row in circuit.genes[: len(HOSTILE_TEXTS)]]
    swap = dict(zip(strongest, HOSTILE_TEXTS, strict=True))
    return circuit._replace(
        target=circuit.target._replace(
            label=HOSTILE_LABEL, answer=HOSTILE_GENE, against=(HOSTILE_LABEL, "$a$\n")
        ),
        genes=tuple(row._replace(gene=swap.get(row.gene, row.gene)) for row in circuit.genes),
        nodes=tuple(
            n._replace(
                gene=swap.get(n.gene, n.gene) if n.gene else None, token=HOSTILE_LABEL if n.token else None
            )
            for n in circuit.nodes
        ),
        sentence=tuple(swap.get(gene, gene) for gene in circuit.sentence),
        provenance={
            "tool": {"name": HOSTILE_GENE, "version": "$1$"},
            "data": HOSTILE_LABEL,
            "model": {"name": "a\nb\x00", "fingerprint": HOSTILE_LABEL},
            "seed": "</script>",
            "names": HOSTILE_LABEL,
        },
    )


def _gene_order(rng: np.random.Generator, n_genes: int) -> list[str]:
    genes = [*B_CELL, *_OTHERS.split()][:n_genes]
    genes += [f"GENE{index}" for index in range(n_genes - len(genes))]
    return [genes[index] for index in rng.permutation(len(genes))]


def _gene_pull(rng: np.random.Generator, genes: list[str]) -> dict[str, float]:
    """A few strong genes, many weak ones; markers of the type positive, others mostly negative."""
    pull = {gene: float(rng.laplace(0, 0.06)) for gene in genes}
    pull |= {gene: float(rng.gamma(3, 0.25)) for gene in B_CELL if gene in pull}
    pull |= {
        gene: -float(rng.gamma(2, 0.2))
        for gene in ("GNLY", "NKG7", "LYZ", "S100A9", "CST3", "CD3D")
        if gene in pull
    }
    return pull


def _tokens(rng: np.random.Generator, genes: list[str]) -> tuple[list[str], list[str | None]]:
    tokens, gene_of = list(PROMPT[:6]), [None] * 6
    for gene in genes:
        cuts = sorted(set(rng.integers(1, max(2, len(gene)), size=int(rng.integers(0, 4))).tolist()))
        pieces = [gene[a:b] for a, b in zip([0, *cuts], [*cuts, len(gene)], strict=True) if a < b]
        tokens += pieces
        gene_of += [gene] * len(pieces)
    return tokens + list(PROMPT[6:]), gene_of + [None] * 3


def _edges(rng: np.random.Generator, nodes: list[Node], pull: dict[str, float], n_in: int) -> list[Edge]:
    edges = []
    for target in nodes:
        if target.kind not in ("feature", "target"):
            continue
        level = target.layer if target.layer is not None else 99
        below = [
            n
            for n in nodes
            if n.kind in ("embedding", "feature", "error")
            and (n.layer if n.layer is not None else -1) < level
        ]
        below = [
            n for n in below if target.position is None or n.position is None or n.position <= target.position
        ]
        chance = np.array([_appeal(source, target, pull) for source in below])
        n_picks = min(len(below), 45 if target.kind == "target" else n_in)
        for index in rng.choice(len(below), size=n_picks, replace=False, p=chance / chance.sum()):
            source = below[int(index)]
            sign = (
                np.sign(pull[source.gene])
                if source.gene in pull and rng.random() < 0.85
                else rng.choice([-1, 1])
            )
            size = rng.gamma(1.2, 0.3) * (0.2 + _appeal(source, target, pull))
            edges.append(Edge(source.id, target.id, float(sign * size)))
        edges.append(Edge("bias", target.id, float(rng.normal(0, 0.2))))
    return edges


def _appeal(source: Node, target: Node, pull: dict[str, float]) -> float:
    same = 1.5 if source.gene and source.gene == target.gene else 0.0
    return (
        0.05
        + same
        + (abs(pull.get(source.gene, 0.0)) if source.gene else 0.03)
        + (0.5 if source.kind == "feature" else 0.0)
    )


def _with_influence(nodes: list[Node], edges: list[Edge]) -> list[Node]:
    """Influence as in method §6 (layer by layer from the target down), signed effects the same way."""
    index = {node.id: i for i, node in enumerate(nodes)}
    size, signed = np.zeros((len(nodes), len(nodes))), np.zeros((len(nodes), len(nodes)))
    for edge in edges:
        if edge.source != "bias":
            size[index[edge.target], index[edge.source]] = abs(edge.weight)
            signed[index[edge.target], index[edge.source]] = edge.weight
    share = size / np.maximum(size.sum(1, keepdims=True), 1e-12)
    start = np.array([float(node.kind == "target") for node in nodes])
    influence, effect = _over_all_paths(start, share), _over_all_paths(start, signed / 4)
    return [
        node
        if node.kind == "target"
        else node._replace(influence=float(influence[i]), effect=float(effect[i]))
        for i, node in enumerate(nodes)
    ]


def _over_all_paths(start: np.ndarray, step: np.ndarray) -> np.ndarray:
    total, reached = np.zeros_like(start), start
    for _ in range(len(start)):
        reached = reached @ step
        total = total + reached
    return total
