"""Which feature of one set is which of another: similarities, mutual best matches, and what chance gives.

Legend: A and B features of the two sets, d residual width, G genes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from scx_core.transcoders import Transcoder

NULL_RATE = 0.01  # share of the null's best matches that reach the threshold


class Moments(NamedTuple):
    """Sums over common places: Σ z_a z_b [A, B] and Σ z, Σ z² of each side, over `n` places."""

    cross_AB: np.ndarray
    sum_A: np.ndarray
    sum_B: np.ndarray
    square_A: np.ndarray
    square_B: np.ndarray
    n: int


class Matches(NamedTuple):
    """Of every feature of the first set: its best match (−1 where there is none), the similarity, and
    whether it is the best match of its best match, [A] each."""

    other_A: np.ndarray
    score_A: np.ndarray
    mutual_A: np.ndarray


def correlation(moments: Moments) -> np.ndarray:
    """Pearson's correlation of activations [A, B]; 0 for a feature that never varies."""
    n = max(moments.n, 1)
    spread_A = np.sqrt(np.maximum(moments.square_A - moments.sum_A**2 / n, 0))
    spread_B = np.sqrt(np.maximum(moments.square_B - moments.sum_B**2 / n, 0))
    covariance_AB = moments.cross_AB - np.outer(moments.sum_A / n, moments.sum_B)
    return covariance_AB * np.outer(_inverse(spread_A), _inverse(spread_B))


def cosine(a_AX: np.ndarray, b_BX: np.ndarray) -> np.ndarray:
    """Cosine of all rows with all rows [A, B]; 0 for a row of zeros."""
    a_AX = a_AX * _inverse(np.linalg.norm(a_AX, axis=1))[:, None]
    b_BX = b_BX * _inverse(np.linalg.norm(b_BX, axis=1))[:, None]
    return a_AX @ b_BX.T


def weights_alike(a: Transcoder, b: Transcoder, order_d: np.ndarray | None = None) -> np.ndarray:
    """Mean cosine of what features read (W_enc) and write (W_dec) [A, B]. `order_d` deals the coordinates of
    the second set anew: its features keep their lengths and what they have in common, but no direction."""
    order = torch.arange(b.width) if order_d is None else torch.as_tensor(order_d)
    reads = cosine(_array(a.W_enc_Fd), _array(b.W_enc_Fd.cpu()[:, order]))
    writes = cosine(_array(a.W_dec_Fd), _array(b.W_dec_Fd.cpu()[:, order]))
    return (reads + writes) / 2


def gene_preference(mass_FG: np.ndarray, tokens_G: np.ndarray) -> np.ndarray:
    """How much more of a feature's mass on genes each gene has than its share of the gene tokens [F, G]."""
    share_FG = mass_FG * _inverse(mass_FG.sum(1))[:, None]
    expected_G = tokens_G / max(tokens_G.sum(), 1)
    return (share_FG - expected_G) * (mass_FG.sum(1) > 0)[:, None]


def _inverse(values: np.ndarray) -> np.ndarray:
    return np.where(values > 1e-12, 1 / np.where(values > 1e-12, values, 1), 0.0)


def _array(weights: torch.Tensor) -> np.ndarray:
    found: np.ndarray = weights.detach().float().cpu().numpy()
    return found


def best_matches(alike_AB: np.ndarray, live_A: np.ndarray, live_B: np.ndarray) -> Matches:
    """Best matches among the live features of both sets."""
    other_A, score_A = np.full(len(live_A), -1), np.zeros(len(live_A))
    mutual_A = np.zeros(len(live_A), dtype=bool)
    rows, columns = np.flatnonzero(live_A), np.flatnonzero(live_B)
    if not len(rows) or not len(columns):
        return Matches(other_A, score_A, mutual_A)
    part = alike_AB[np.ix_(rows, columns)]
    best = part.argmax(1)
    other_A[rows] = columns[best]
    score_A[rows] = part[np.arange(len(rows)), best]
    mutual_A[rows] = part.argmax(0)[best] == np.arange(len(rows))
    return Matches(other_A, score_A, mutual_A)


def threshold(null: Matches) -> float:
    """What only 1 % of the best matches by chance reach."""
    scores = null.score_A[null.other_A >= 0]
    return float(np.quantile(scores, 1 - NULL_RATE)) if len(scores) else 1.0


def generalises(matches: Matches, limit: float) -> np.ndarray:
    """Whether a feature has a mutual best match above the threshold, [A]."""
    return matches.mutual_A & (matches.score_A > limit)
