"""Whole answers as a tree: every token that some answer goes through is read once for all of them.

Legend: M nodes of the tree that are read (all but the ends of answers), K answers, E edges of the tree, W
tokens of the longest answer, R prompts, Q columns that are read, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.errors import ScxError
from scx_core.language.loading import Language
from scx_core.language.patterns import sparing_attention
from scx_core.sentences import pad_left

VOCABULARY_NUMBERS = 32_000_000  # logits that are held at once


class AnswerTree(NamedTuple):
    """Node 0 is the last token of the prompt; each other node is an answer token behind its parent.

    `token_M` (−1 at node 0), `parent_M` (itself at node 0) and `depth_M` (0 there); parents come first.
    `sees_MM[m, n]`: n is m or stands before it on the way from the root. `labels` are the K answers;
    `edge_node_E`, `edge_token_E`: at that node the answer goes on with that token; `used_KE`: 1 where an
    answer takes an edge, `edge_KW` the edges that it takes in their order, −1 behind its end. `place` finds a
    node by the tokens that lead to it.
    """

    token_M: np.ndarray
    parent_M: np.ndarray
    depth_M: np.ndarray
    sees_MM: np.ndarray
    labels: tuple[str, ...]
    edge_node_E: np.ndarray
    edge_token_E: np.ndarray
    used_KE: np.ndarray
    edge_KW: np.ndarray
    place: dict[tuple[int, ...], int]


def answer_tree(answers: Mapping[str, Sequence[int]], also: Iterable[Sequence[int]] = ()) -> AnswerTree:
    """The tree of these answers (token ids by label); `also` are further beginnings that must be read.

    Raises ScxError when an answer has no tokens.
    """
    empty = [label for label, ids in answers.items() if not len(ids)]
    if empty:
        raise ScxError(f"The answer {empty[0]!r} has no tokens.", "Rename it.")
    ways = {tuple(ids[:n]) for ids in answers.values() for n in range(len(ids))}
    ways |= {tuple(ids[:n]) for ids in also for n in range(len(ids) + 1)}
    nodes = sorted(ways, key=lambda way: (len(way), way))
    place = {way: m for m, way in enumerate(nodes)}
    parent_M = np.array([place[way[:-1]] if way else 0 for way in nodes])
    sees_MM = np.zeros((len(nodes), len(nodes)), dtype=bool)
    for m, parent in enumerate(parent_M):
        sees_MM[m] = sees_MM[parent]
        sees_MM[m, m] = True
    edges = sorted(
        {(place[tuple(ids[:n])], int(ids[n])) for ids in answers.values() for n in range(len(ids))}
    )
    number = {edge: e for e, edge in enumerate(edges)}
    used_KE = np.zeros((len(answers), len(edges)))
    edge_KW = np.full((len(answers), max(map(len, answers.values()))), -1)
    for k, ids in enumerate(answers.values()):
        for n in range(len(ids)):
            edge_KW[k, n] = number[place[tuple(ids[:n])], int(ids[n])]
            used_KE[k, edge_KW[k, n]] = 1.0
    node_E, token_E = np.array(edges).T
    return AnswerTree(
        np.array([way[-1] if way else -1 for way in nodes]),
        parent_M,
        np.array([len(way) for way in nodes]),
        sees_MM,
        tuple(answers),
        node_E,
        token_E,
        used_KE,
        edge_KW,
        place,
    )


def step_scores(logits_RMV: torch.Tensor, tree: AnswerTree) -> torch.Tensor:
    """Log-probability of every edge of the tree, float64 [R, E] (nats)."""
    logits_RMV = logits_RMV.double()
    node_E = torch.from_numpy(tree.edge_node_E).to(logits_RMV.device)
    token_E = torch.from_numpy(tree.edge_token_E).to(logits_RMV.device)
    return logits_RMV[:, node_E, token_E] - logits_RMV.logsumexp(-1)[:, node_E]


def answer_scores(logits_RMV: torch.Tensor, tree: AnswerTree) -> torch.Tensor:
    """Log-probability of every whole answer, float64 [R, K] (nats)."""
    step_RE = step_scores(logits_RMV, tree)
    return step_RE @ torch.from_numpy(tree.used_KE).to(step_RE.device).T


class TreeBatch(NamedTuple):
    """Prompts padded on the left, each with the tree behind it: column T − 1 is node 0, and the other nodes
    follow, [R, Q = T + M − 1]. `real_RT` marks the prompts' tokens; `mask` is what the model is given."""

    ids_RQ: torch.Tensor
    at_RQ: torch.Tensor
    real_RT: torch.Tensor
    mask: Any


def tree_batch(lm: Language, prompts: Sequence[Sequence[int]], tree: AnswerTree) -> TreeBatch:
    """What the model reads to know all answers behind each of these prompts (token ids)."""
    padded = pad_left(prompts, lm.pad_id)
    ids_RT, real_RT = torch.from_numpy(padded.ids_BT), torch.from_numpy(padded.mask_BT).bool()
    (n_rows, T), M = ids_RT.shape, len(tree.token_M)
    ids_RQ = torch.cat([ids_RT, torch.from_numpy(tree.token_M[1:]).expand(n_rows, -1)], 1)
    at_RT = (real_RT.cumsum(-1) - 1).clamp(min=0)
    at_RQ = torch.cat([at_RT, at_RT[:, -1:] + torch.from_numpy(tree.depth_M[1:])], 1)
    sees_RQQ = torch.zeros(n_rows, T + M - 1, T + M - 1, dtype=torch.bool)
    sees_RQQ[:, :T, :T] = torch.ones(T, T, dtype=torch.bool).tril()
    sees_RQQ[:, T:, :T] = True
    sees_RQQ[:, :, :T] &= real_RT[:, None]
    sees_RQQ[:, T:, T:] = torch.from_numpy(tree.sees_MM[1:, 1:])
    return TreeBatch(
        ids_RQ.to(lm.device), at_RQ.to(lm.device), real_RT.to(lm.device), masks(lm, sees_RQQ, at_RQ, at_RQ)
    )


@torch.no_grad()
def read_tree(lm: Language, batch: TreeBatch) -> torch.Tensor:
    """One forward pass: hidden states behind the last norm, [R, Q, d]."""
    with sparing_attention(lm, *batch.ids_RQ.shape):
        return lm.model.base_model(
            input_ids=batch.ids_RQ, position_ids=batch.at_RQ, attention_mask=batch.mask, use_cache=False
        ).last_hidden_state


@torch.no_grad()
def token_scores(lm: Language, hidden_RMd: torch.Tensor, tree: AnswerTree) -> np.ndarray:
    """Log-probability of each token of each answer from the hidden states at the nodes, float64 [R, K, W]
    (nats); 0 behind an answer's end. Logits are held for some prompts at a time."""
    head = lm.model.get_output_embeddings()
    size = max(1, VOCABULARY_NUMBERS // (hidden_RMd.shape[1] * lm.unembedding.shape[0]))
    found = [step_scores(capped(lm, head(some_RMd)), tree) for some_RMd in hidden_RMd.split(size)]
    step_RE = torch.cat(found).cpu().numpy()
    return np.where(tree.edge_KW >= 0, step_RE[:, tree.edge_KW], 0.0)


def capped(lm: Language, logits: torch.Tensor) -> torch.Tensor:
    """Logits as the model gives them, from the product of hidden states and unembedding."""
    cap = lm.facts.logit_cap
    return logits if cap is None else cap * torch.tanh(logits / cap)


def masks(lm: Language, sees_RQK: torch.Tensor, at_RQ: torch.Tensor, at_RK: torch.Tensor) -> Any:
    """What the model adds to its attention scores, from what sees what and where in the text both stand.

    One for each kind of layer where windows slide.
    """
    config = lm.model.config
    window = getattr(config, "sliding_window", None)
    full = _added(lm, sees_RQK)
    if not getattr(config, "layer_types", None):
        return full
    found = {"full_attention": full}
    if window:
        near_RQK = at_RK[:, None, :] > at_RQ[:, :, None] - window
        found["sliding_attention"] = _added(lm, sees_RQK & near_RQK)
    return found


def _added(lm: Language, sees_RQK: torch.Tensor) -> torch.Tensor:
    lowest = torch.finfo(torch.float32 if lm.dtype == torch.float64 else lm.dtype).min
    mask = torch.zeros(sees_RQK.shape, dtype=lm.dtype).masked_fill_(~sees_RQK, lowest)
    return mask[:, None].to(lm.device)
