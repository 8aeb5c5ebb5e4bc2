"""Fast attributions of a cell's genes, to be judged by measured knock-outs: what each one costs and is.

| name | what it is | passes |
|---|---|---|
| frozen | total effect in the frozen replacement model (method §8): the exact account | 1 |
| frozen_neutral | the same gradients, on embedding less neutral gene's embedding | 1 |
| gradient | d target / d embedding of the real model, on the embedding | 1 |
| neutral | d target / d embedding, on embedding less neutral: first-order estimate of a `gap` knock-out | 1 |
| neutral_held | the same with all attention patterns held | 1 |
| neutral_last | the same with all but the last layer's patterns held | 1 |
| integrated_4, _8, _16 | the slope's mean along the straight way from all genes to all neutral | 4, 8, 16 |
| own_way_8 | the slope half-way to neutral for the gene alone: genes move in 8 groups | 8 |
| own_way_16, _32 | the same in 16 and in 32 groups | 16, 32 |
| own_way_8_twice | the mean of the slopes at a quarter and at three quarters of the way, 8 groups | 16 |
| own_ends_16 | the mean of the slopes where the gene is and where it is neutral, 16 groups | 17 |
| second_order | `neutral` less half of the gene's own curvature, from 8 random signs of all genes | 17 |
| redundancy | `neutral` times the share of the gene's embedding that the cell's others do not state | 1 |
| ties_4 | `neutral`, mean over 4 orders of genes of equal expression | 4 |
| rank, low_rank | expression rank, high first; low first | 0 |
| t_test | Welch's t of the type against the other types | 0 |
| random | random numbers | 0 |

Each is in the unit of the target and has the sign of a knock-out: positive speaks for the answer. How well
they predict is measured in prediction.py; the one that does best, `BEST`, is the estimated knock-out that
the gene tables show where none was measured.
Legend: G genes of the sentence, T positions, d residual width, N points (prompts of one length, with other
embeddings), M nodes of the answer tree, Q = T − 1 + M columns, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AttentionInterface

from scx_core.attribution.backward import total_effects
from scx_core.attribution.target import frozen_for, target_row
from scx_core.evidence.knockouts.edits import Sentence, attention
from scx_core.evidence.knockouts.measured_effects import Measurer
from scx_core.language import Language, encode_cells, texts_with_gradients
from scx_core.language.answer_tree import AnswerTree, capped, masks
from scx_core.runs.micro_batch import MicroBatch
from scx_core.sentences import GeneSpan

SIGNS, TIE_ORDERS, STEP = 8, 4, 0.25
BEST = "own_way_8_twice"


class EmbeddedCell(NamedTuple):
    """A sentence with its embeddings: `x_Td` as they are, `away_Td` from there to the neutral gene's, negated
    (embedding less neutral; 0 outside the genes)."""

    sentence: Sentence
    x_Td: torch.Tensor
    away_Td: torch.Tensor
    gene_T: np.ndarray

    @property
    def spans(self) -> tuple[GeneSpan, ...]:
        """Its genes."""
        return self.sentence.cell.spans


class Attributor:
    """All fast attributions of one cell. Slopes that several need are computed once."""

    def __init__(self, measurer: Measurer, sentence: Sentence) -> None:
        self.measurer, self.lm = measurer, measurer.tracer.lm
        ids, gene_T = list(sentence.cell.ids), np.full(len(sentence.cell.ids), -1)
        for g, span in enumerate(sentence.cell.spans):
            ids[span.start : span.end] = measurer.editor.neutral(span.end - span.start, sentence).ids
            gene_T[span.start : span.end] = g
        both = torch.tensor([list(sentence.cell.ids), ids], device=self.lm.device)
        with torch.no_grad():
            x_Td, neutral_Td = self.lm.model.get_input_embeddings()(both)
        self.cell = EmbeddedCell(sentence, x_Td, x_Td - neutral_Td, gene_T)

    def by_gene(self, value_Td: torch.Tensor) -> np.ndarray:
        """Sums over the tokens of each gene, float64 [G]."""
        value_T = value_Td.double().sum(-1).cpu().numpy()
        at = self.cell.gene_T >= 0
        return np.bincount(self.cell.gene_T[at], value_T[at], len(self.cell.spans))

    def slopes_at(self, x_NTd: torch.Tensor, held: range = range(0)) -> torch.Tensor:
        """d target / d embedding at these points, [N, T, d]."""
        return slopes(self.lm, x_NTd, self.measurer.tree, self.measurer.value, held)

    @cached_property
    def slope_Td(self) -> torch.Tensor:
        """The slope at the cell itself."""
        return self.slopes_at(self.cell.x_Td[None])[0]

    def frozen(self, write_Td: torch.Tensor) -> np.ndarray:
        """Total effects in the frozen replacement model if the tokens wrote `write_Td`."""
        tracer, plan = self.measurer.tracer, self.measurer.plan
        frozen = frozen_for(tracer.rep, self.cell.sentence.cell, plan)
        longer_Td = frozen.embedding_Td.clone()
        longer_Td[: len(write_Td)] = write_Td
        target, bias, _ = target_row(frozen, plan)
        # The account is linear in what the tokens write, with all else frozen.
        token_T = total_effects(frozen._replace(embedding_Td=longer_Td), target, bias).token_T
        return self.by_gene(token_T[: len(write_Td), None])

    def first_order(self, write_Td: torch.Tensor, held: int = 0) -> np.ndarray:
        """The slope at the cell × `write_Td`, the attention patterns of the first `held` layers held."""
        slope_Td = self.slopes_at(self.cell.x_Td[None], range(held))[0] if held else self.slope_Td
        return self.by_gene(slope_Td * write_Td)

    def neutral(self) -> np.ndarray:
        """Gradient × (input − neutral)."""
        return self.first_order(self.cell.away_Td)

    def integrated(self, steps: int) -> np.ndarray:
        """Slopes at the middles of `steps` equal parts of the way from all genes to all neutral."""
        part_N = (torch.arange(steps, device=self.lm.device) + 0.5) / steps
        points_NTd = self.cell.x_Td - part_N[:, None, None].to(self.cell.x_Td.dtype) * self.cell.away_Td
        return self.by_gene(self.slopes_at(points_NTd).mean(0) * self.cell.away_Td)

    def own_way(self, groups: int, parts: tuple[float, ...] = (0.5,)) -> np.ndarray:
        """Each gene's slope with it and the others of its group moved by `parts` of the way to neutral, mean.

        The genes of a group stand `groups` ranks apart.
        """
        group_T = np.where(self.cell.gene_T >= 0, self.cell.gene_T % groups, -1)
        moved_NT = torch.from_numpy(group_T[None] == np.arange(groups)[:, None]).to(self.lm.device)
        weight_NT1 = moved_NT[..., None].to(self.cell.x_Td.dtype)
        total_Td = torch.zeros_like(self.cell.x_Td)
        for part in parts:
            slope_NTd = self.slopes_at(self.cell.x_Td - part * weight_NT1 * self.cell.away_Td)
            total_Td += (slope_NTd * weight_NT1).sum(0) / len(parts)
        return self.by_gene(total_Td * self.cell.away_Td)

    def second_order(self) -> np.ndarray:
        """f(x) − f(x − a) ≈ a·∇f − ½ aᵀHa, with aᵀHa of each gene from random signs of all genes."""
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (SIGNS, len(self.cell.spans)))
        curved = np.zeros(len(self.cell.spans))
        for sign_G in signs:
            sign_T = np.where(self.cell.gene_T >= 0, sign_G[self.cell.gene_T], 0.0)
            way_Td = torch.from_numpy(sign_T).to(self.cell.x_Td)[:, None] * self.cell.away_Td
            ends_2Td = torch.stack([self.cell.x_Td + STEP * way_Td, self.cell.x_Td - STEP * way_Td])
            plus_Td, minus_Td = self.slopes_at(ends_2Td)
            curved += sign_G * self.by_gene((plus_Td - minus_Td) / (2 * STEP) * self.cell.away_Td)
        return self.neutral() - 0.5 * curved / SIGNS

    def redundancy(self) -> np.ndarray:
        """`neutral` × what the gene says that the others do not: 1 − r², r² from a ridge regression of its
        embedding, centred, on all others of the sentence."""
        sums_Gd = np.zeros((len(self.cell.spans), self.cell.x_Td.shape[1]))
        away_Td = self.cell.away_Td.double().cpu().numpy()
        at = self.cell.gene_T >= 0
        np.add.at(sums_Gd, self.cell.gene_T[at], away_Td[at])
        sums_Gd -= sums_Gd.mean(0)
        gram_GG = sums_Gd @ sums_Gd.T
        inverse_GG = np.linalg.inv(gram_GG + np.eye(len(gram_GG)) * np.trace(gram_GG) / len(gram_GG))
        own_G = 1.0 / np.diag(inverse_GG) - np.trace(gram_GG) / len(gram_GG)
        return self.neutral() * np.clip(own_G / np.maximum(np.diag(gram_GG), 1e-30), 0.0, 1.0)

    def ties(self, orders: int) -> np.ndarray:
        """`neutral` over orders of equally expressed genes; of a gene, the mean over those that hold it."""
        tracer, sentence = self.measurer.tracer, self.cell.sentence
        cfg, lm = tracer.lm.sentence_config, tracer.lm
        name_G = sentence.cell.genes
        total = {gene: [value] for gene, value in zip(name_G, self.neutral(), strict=True)}
        for seed in range(cfg.tie_seed + 1, cfg.tie_seed + orders):
            other_order = replace(cfg, tie_seed=seed)
            cell = encode_cells(lm, tracer.table, [sentence.row], sentences=other_order)[0]
            other = Attributor(self.measurer, sentence._replace(cell=cell))
            for gene, value in zip(cell.genes, other.neutral(), strict=True):
                if gene in total:
                    total[gene].append(value)
        return np.array([np.mean(total[gene]) for gene in name_G])


FAST: Mapping[str, Callable[[Attributor], np.ndarray]] = {
    "frozen": lambda one: one.frozen(one.cell.x_Td),
    "frozen_neutral": lambda one: one.frozen(one.cell.away_Td),
    "gradient": lambda one: one.first_order(one.cell.x_Td),
    "neutral": Attributor.neutral,
    "neutral_held": lambda one: one.first_order(one.cell.away_Td, one.lm.facts.n_layers),
    "neutral_last": lambda one: one.first_order(one.cell.away_Td, one.lm.facts.n_layers - 1),
    "integrated_4": lambda one: one.integrated(4),
    "integrated_8": lambda one: one.integrated(8),
    "integrated_16": lambda one: one.integrated(16),
    "own_way_8": lambda one: one.own_way(8),
    "own_way_16": lambda one: one.own_way(16),
    "own_way_8_twice": lambda one: one.own_way(8, (0.25, 0.75)),
    "own_way_32": lambda one: one.own_way(32),
    "own_ends_16": lambda one: (one.neutral() + one.own_way(16, (1.0,))) / 2,
    "second_order": Attributor.second_order,
    "redundancy": Attributor.redundancy,
    "ties_4": lambda one: one.ties(TIE_ORDERS),
    "rank": lambda one: -np.array([float(span.rank) for span in one.cell.spans]),
    "low_rank": lambda one: np.array([float(span.rank) for span in one.cell.spans]),
    "random": lambda one: np.random.default_rng(one.cell.sentence.row).normal(size=len(one.cell.spans)),
}


def estimated(measurer: Measurer, sentence: Sentence) -> np.ndarray:
    """The estimated knock-out of every gene of a sentence by `BEST`, in the target's unit, [G]."""
    return FAST[BEST](Attributor(measurer, sentence))


TOKENS = 4096  # of a batch
_WAY = "scx_held"
_HELD: ContextVar[frozenset[int]] = ContextVar("scx_held_layers", default=frozenset())

Value = Callable[[torch.Tensor], torch.Tensor]


def slopes(
    lm: Language, x_NTd: torch.Tensor, tree: AnswerTree, value: Value, held: Collection[int] = ()
) -> torch.Tensor:
    """d value / d embedding at each of these points, [N, T, d]. `value` takes logits [N, M, V] to [N].

    In the layers of `held` the attention patterns are taken as they are at the point: the gradient passes
    through what attention moves, not through where it looks.
    """

    def attempt(some: slice) -> torch.Tensor:
        leaf_NTd = x_NTd[some].detach().clone().requires_grad_(True)
        total = value(_tree_logits(lm, leaf_NTd, tree)).sum()
        return torch.autograd.grad(total, leaf_NTd)[0]

    n_points, length = len(x_NTd), x_NTd.shape[1] + len(tree.token_M)
    size = texts_with_gradients(lm.facts, lm.device, length, max(1, TOKENS // x_NTd.shape[1]))
    with _held_patterns(lm, held), torch.enable_grad():
        return torch.cat(list(MicroBatch(units="points").pieces(attempt, n_points, size)))


def _tree_logits(lm: Language, x_NTd: torch.Tensor, tree: AnswerTree) -> torch.Tensor:
    """Logits at every node of the tree behind prompts with these embeddings, [N, M, V]."""
    n, T, _ = x_NTd.shape
    M = len(tree.token_M)
    device = x_NTd.device
    tokens = torch.from_numpy(tree.token_M[1:]).to(device)
    tail = lm.model.get_input_embeddings()(tokens).to(x_NTd.dtype).expand(n, -1, -1)
    at_Q = torch.cat([torch.arange(T - 1), T - 1 + torch.from_numpy(tree.depth_M)])
    sees_QQ = torch.zeros(T - 1 + M, T - 1 + M, dtype=torch.bool)
    sees_QQ[: T - 1, : T - 1] = torch.ones(T - 1, T - 1, dtype=torch.bool).tril()
    sees_QQ[T - 1 :, : T - 1] = True
    sees_QQ[T - 1 :, T - 1 :] = torch.from_numpy(tree.sees_MM)
    hidden_NMd = lm.model.base_model(
        inputs_embeds=torch.cat([x_NTd, tail], 1),
        position_ids=at_Q[None].expand(n, -1).to(device),
        attention_mask=masks(lm, sees_QQ[None].expand(n, -1, -1), at_Q[None], at_Q[None]),
        use_cache=False,
    ).last_hidden_state[:, T - 1 :]
    return capped(lm, lm.model.get_output_embeddings()(hidden_NMd))


@contextmanager
def _held_patterns(lm: Language, held: Collection[int]) -> Iterator[None]:
    before, token = lm.model.config._attn_implementation, _HELD.set(frozenset(held))
    lm.model.set_attn_implementation(_WAY)
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)
        _HELD.reset(token)


def _attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, *rest: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """Attention as the model has it; the pattern of a held layer has no gradient."""
    if getattr(module, "layer_idx", None) in _HELD.get():
        query, key = query.detach(), key.detach()
    return attention(module, query, key, *rest, **options), None


AttentionInterface.register(_WAY, _attention)
