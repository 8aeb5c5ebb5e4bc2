"""Which genes the features of a smallest circuit read: measured on the features, not on the answer.

The steps:
 1. the smallest circuit of an answer against its rival (smallest/smallest_circuit.py);
 2. in cells of both answers every gene is taken out of the sentence, and the activations of the circuit's
    features at the token before the decision are read in the real model: a feature reads a gene as much as
    its activation changes, mean Δz² over the cells;
 3. a feature's readings, the answer's marker of the cells left in, are put to a sum of 1 and weighed by its
    part in the target: |gain| of its gate at the circuit, mean over the cells (interventions.py);
 4. their sum over the features is the circuit's reading of each gene.
The same for random features of the same layers and activation (`matched_sets`) stands beside.
Legend: F features of a layer, N nodes of the circuit, R prompts, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.attribution.target import TargetPlan
from scx_core.circuits import Tracer
from scx_core.evidence.ablation_reference import InterventionConfig, reference_of
from scx_core.evidence.interventions import Intervention
from scx_core.evidence.knockouts.edits import ROWS, TOKENS, Editor
from scx_core.evidence.smallest.faithfulness import FaithfulnessProblem, activation_mass, matched_sets
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig, smallest
from scx_core.language import mlp_io
from scx_core.runs.micro_batch import MicroBatch
from scx_core.runs.options import option
from scx_core.sentences import pad_left


@dataclass(frozen=True)
class ReadingConfig:
    """What the smallest circuit must keep, and in which cells it is searched."""

    wanted: float = option(0.8, "Share of the target that the circuit keeps", minimum=0.0, maximum=1.0)
    search_cells: int = option(12, "Cells that the search sees", minimum=2)
    unseen_cells: int = option(12, "Cells that verify it", minimum=2)
    reference_cells: int = option(24, "Cells of other types for the reference", minimum=1)
    seed: int = option(0, "Seed of the draws", minimum=0)


class CircuitReading(NamedTuple):
    """`genes`: reading of each gene by the circuit's features, sums to 1; `random`: by random features;
    `nodes`: (layer, feature, weight) of the circuit, `kept`: share that it keeps in unseen cells."""

    genes: dict[str, float]
    random: dict[str, float]
    nodes: tuple[tuple[int, int, float], ...]
    kept: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain types; the readings are in the ranking of genes already."""
        return {"size": len(self.nodes), "kept": self.kept, "nodes": [list(node) for node in self.nodes]}


def circuit_reading(
    tracer: Tracer, answer: str, rival: str, rows: np.ndarray, cfg: ReadingConfig | None = None
) -> CircuitReading:
    """The genes that the features of the smallest circuit for `answer` against `rival` read in these rows.

    Raises ScxError when the features make no difference to the target.
    """
    cfg = cfg or ReadingConfig()
    found = smallest(tracer, answer, against=[rival], cfg=_search(cfg))
    plan = tracer.plan(answer, [rival])
    nodes = np.array(found.nodes, dtype=np.int64).reshape(-1, 2)
    other = _matched(tracer, plan, found.cells, nodes, cfg.seed)
    weight = _gains(tracer, plan, found.cells, nodes)
    read = _readings(tracer, plan, rows, nodes)
    by_chance = _readings(tracer, plan, rows, other)
    return CircuitReading(
        _weighed(read, weight),
        _weighed(by_chance, np.ones(len(other))),
        tuple((int(k), int(f), float(w)) for (k, f), w in zip(nodes, weight, strict=True)),
        found.reached_unseen,
    )


def _search(cfg: ReadingConfig) -> SmallestConfig:
    return SmallestConfig(
        wanted=cfg.wanted,
        search_cells=cfg.search_cells,
        gradient_cells=max(1, cfg.search_cells // 2),
        unseen_cells=cfg.unseen_cells,
        reference_cells=cfg.reference_cells,
        compare=False,
        draws=1,
        seed=cfg.seed,
    )


def _intervention(tracer: Tracer, plan: TargetPlan, cells: dict[str, tuple[int, ...]]) -> Intervention:
    """The circuit's own cells and reference, ready for interventions."""
    lm, coders, cfg = tracer.lm, tracer.rep.transcoders, InterventionConfig()
    reference = reference_of(lm, coders, plan, tracer.encode(cells["reference"]), cfg)
    return Intervention(lm, coders, plan, tracer.encode(cells["search"]), reference, cfg)


def _gains(
    tracer: Tracer, plan: TargetPlan, cells: dict[str, tuple[int, ...]], nodes: np.ndarray
) -> np.ndarray:
    """Mean |gain| of each node's gate over the searched cells, the circuit's gates open."""
    gain_BLF = _intervention(tracer, plan, cells).gains(nodes).gain_BLF
    return np.abs(gain_BLF[:, nodes[:, 0], nodes[:, 1]]).mean(0)


def _matched(
    tracer: Tracer, plan: TargetPlan, cells: dict[str, tuple[int, ...]], nodes: np.ndarray, seed: int
) -> np.ndarray:
    """One random set of the same size, layers and activation."""
    problem = FaithfulnessProblem(_intervention(tracer, plan, cells))
    members = np.ravel_multi_index(tuple(nodes.T), problem.shape)
    drawn = matched_sets(members, activation_mass(problem), problem.shape[0], 1, seed)[0]
    return problem.nodes(drawn)


def _readings(
    tracer: Tracer, plan: TargetPlan, rows: np.ndarray, nodes: np.ndarray
) -> list[dict[str, float]]:
    """For each node, mean Δz² over the rows when each gene is taken out of the sentence."""
    editor, micro = Editor(tracer), MicroBatch(units="edited prompts")
    found: list[dict[str, float]] = [{} for _ in nodes]
    for row in np.asarray(rows).tolist():
        sentence = editor.sentence(row)
        genes = sentence.cell.genes
        if len(genes) < 2:  # a sentence without any gene is none
            continue
        prompts = [sentence.cell.ids, *editor.singles(sentence, genes, "text")]
        z_RN = _activations(tracer, [[*ids, *plan.forced] for ids in prompts], nodes, micro)
        change_RN = np.square(z_RN[1:] - z_RN[0])
        for one, change_R in zip(found, change_RN.T.tolist(), strict=True):
            for gene, change in zip(genes, change_R, strict=True):
                one[gene] = one.get(gene, 0.0) + change / len(rows)
    return found


@torch.no_grad()
def _activations(
    tracer: Tracer, prompts: Sequence[Sequence[int]], nodes: np.ndarray, micro: MicroBatch
) -> np.ndarray:
    """Activation of each node at the last token of each prompt, [R, N]: as many prompts at a time as `TOKENS`
    and `ROWS` allow, fewer where the memory does not suffice. The padding is that of all, so that pieces do
    not change a position. Raises TooLarge."""
    lm, coders = tracer.lm, tracer.rep.transcoders.layers
    layers = sorted(set(nodes[:, 0].tolist()))
    ids_RT, mask_RT = (torch.from_numpy(part) for part in pad_left([list(ids) for ids in prompts], lm.pad_id))

    def attempt(some: slice) -> np.ndarray:
        io = mlp_io(lm, ids_RT[some].to(lm.device), mask_RT[some].to(lm.device), layers=layers)
        z_RN = np.zeros((len(ids_RT[some]), len(nodes)))
        for layer in layers:
            at = np.flatnonzero(nodes[:, 0] == layer)
            z_RF = coders[layer].encode(io.inputs[layer][:, -1])
            z_RN[:, at] = z_RF[:, nodes[at, 1].tolist()].double().cpu().numpy()
        return z_RN

    if not len(nodes):
        return np.zeros((len(prompts), 0))
    most = min(ROWS, max(1, TOKENS // ids_RT.shape[1]))
    return np.concatenate(list(micro.pieces(attempt, len(prompts), most)))


def _weighed(read: list[dict[str, float]], weight: np.ndarray) -> dict[str, float]:
    """The features' readings, each with a sum of 1, weighed and added up; strongest first."""
    total: dict[str, float] = {}
    share = weight / weight.sum() if weight.sum() else np.ones(len(weight)) / max(1, len(weight))
    for one, part in zip(read, share.tolist(), strict=True):
        whole = sum(one.values())
        for gene, value in one.items():
            total[gene] = total.get(gene, 0.0) + (part * value / whole if whole else 0.0)
    return {gene: total[gene] for gene in sorted(total, key=lambda gene: (-total[gene], gene))}
