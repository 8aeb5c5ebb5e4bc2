"""The target of a whole answer: the log-odds of a label against others, read wherever their tokens part.

    log p(label) − log Σ_k p(k) over the competitors k,
p the probability of all tokens of an answer. The label's tokens a_0 … a_n stand in the prompt, but for the
last. A competitor shares the first t_k of them, leaves with a token c_k of its own, and goes on from there
with probability r_k:
    log p(k) = Σ_{j < t_k} log p(a_j) + log p(c_k) + log r_k.
All but r_k is read from the logits at this prompt; r_k lies on another prompt, is measured once and held
fixed. With w_k the share of k in Σ_k p(k), the gradient in the logits that decide a_j is
    g_j = (B_j + D_j) e_{a_j} − Σ_{k: t_k = j} w_k e_{c_k} − D_j p_j,
p_j the softmax there, B_j and D_j the shares of the competitors that leave there and that have left before.
Where all still share the token nothing is weighed; where competitors leave, their tokens against the label's;
behind, how likely the label's own rest is. The target is the expansion to first order at this prompt:
    Σ_j g_j · logits_j + constant,  with the constant for which it is the real log-odds.
Legend: J positions that decide the label's tokens, R of them that are read, K competitors, V vocabulary, W
tokens of the longest competitor, d residual width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from scx_core.attribution.local_replacement_model import FrozenPrompt
from scx_core.attribution.residual_stream import GradientRows
from scx_core.language import Parting


class Branch(NamedTuple):
    """What a whole answer's target reads at one position: a weighted sum of the logits there.

    `coefficients` maps a token id to its weight; `expected` is the weight of the model's own expectation of
    the logits, Σ p_v · logit_v with p the softmax at this position, which is taken off (target.py).
    """

    position: int
    coefficients: dict[int, float]
    expected: float = 0.0


class AnswerPlan(NamedTuple):
    """A whole answer and its competitors as tokens. `answer_J` are the label's; `rivals_K` says where each
    competitor leaves it, `tokens_K` are its tokens. `rest_K`: log r_k in one cell, None until it is measured
    (with_rest)."""

    answer_J: tuple[int, ...]
    rivals_K: tuple[Parting, ...]
    tokens_K: tuple[tuple[int, ...], ...]
    rest_K: tuple[float, ...] | None = None


def with_rest(whole: AnswerPlan, score_KW: np.ndarray) -> AnswerPlan:
    """The answer with log r_k from the log-probability of each token of each competitor's answer, [K, W]."""
    length = len(whole.answer_J)
    after_K = [length if rival.at == length else rival.at + 1 for rival in whole.rivals_K]
    rest_K = (float(score_W[after:].sum()) for score_W, after in zip(score_KW, after_K, strict=True))
    return whole._replace(rest_K=tuple(rest_K))


class AnswerForm(NamedTuple):
    """A whole answer's target at one prompt: what it reads, its value (nats), each competitor's share, and
    the answer's own log-probability (none of a target from a file)."""

    branches: tuple[Branch, ...]
    value: float
    share_K: tuple[float, ...]
    log_probability: float | None


def rivals_log_probability(logp_JV: torch.Tensor, whole: AnswerPlan) -> tuple[torch.Tensor, torch.Tensor]:
    """log p of the label [...] and of each competitor [..., K], from log-softmaxed logits [..., J, V] at the
    positions that decide the label's tokens, and the r_k of `whole`, whose shape is [K] or [..., K]."""
    own_J = torch.tensor(whole.answer_J, device=logp_JV.device)
    token_J = logp_JV.gather(-1, own_J.expand(logp_JV.shape[:-1])[..., None])[..., 0]
    before_J = torch.nn.functional.pad(token_J.cumsum(-1), (1, 0))
    rival_K = []
    for rival in whole.rivals_K:
        shared = before_J[..., rival.at]
        rival_K.append(shared if rival.token is None else shared + logp_JV[..., rival.at, rival.token])
    rest_K = torch.as_tensor(whole.rest_K, dtype=logp_JV.dtype, device=logp_JV.device)
    return before_J[..., -1], torch.stack(rival_K, -1) + rest_K


def form_of(logits_JV: torch.Tensor, whole: AnswerPlan, first: int) -> AnswerForm:
    """The target at the logits that decide the answer's tokens, the first of them at position `first`."""
    logp_JV = logits_JV.double().log_softmax(-1)
    own, rival_K = rivals_log_probability(logp_JV, whole)
    share_K = rival_K.softmax(0).tolist()
    rivals = list(zip(whole.rivals_K, share_K, strict=True))
    branches, gone = [], 0.0
    for j, token in enumerate(whole.answer_J):
        leaving = [(rival, share) for rival, share in rivals if rival.at == j]
        weights = {token: gone + sum(share for rival, share in leaving)}
        for rival, share in leaving:
            if rival.token is None:  # it ends here: no token of its own is weighed, it has left
                gone += share
            else:
                weights[rival.token] = weights.get(rival.token, 0.0) - share
        if weights[token] > 0:
            branches.append(Branch(first + j, weights, gone))
        gone += sum(share for rival, share in leaving if rival.token is not None)
    return AnswerForm(tuple(branches), float(own - rival_K.logsumexp(0)), tuple(share_K), float(own))


def answer_rows(frozen: FrozenPrompt, form: AnswerForm) -> tuple[GradientRows, float]:
    """The rows of a whole answer's target, one a position that it reads, and their bias."""
    rep = frozen.replacement
    W_U_Vd, first = rep.lm.unembedding, frozen.n_positions - len(frozen.logits_JV)
    at_R = torch.tensor([branch.position for branch in form.branches], device=W_U_Vd.device)
    logits_RV = frozen.logits_JV[at_R - first].double()
    weight_RV = torch.zeros_like(logits_RV)
    for weight_V, logits_V, branch in zip(weight_RV, logits_RV, form.branches, strict=True):
        if branch.expected:
            weight_V -= branch.expected * logits_V.softmax(0)
        for token, weight in branch.coefficients.items():
            weight_V[token] += weight
    constant = form.value - float((weight_RV * logits_RV).sum())
    if frozen.logit_factor_JV is not None:
        weight_RV = weight_RV * frozen.logit_factor_JV[at_R - first]
    gradient_Rd = weight_RV.to(W_U_Vd.dtype) @ W_U_Vd
    bias = float((gradient_Rd @ rep.final_norm.shift_d).double().sum()) + constant
    scaled_Rd = rep.final_norm.fold(gradient_Rd) * frozen.final_scale_T[at_R, None]
    return GradientRows(scaled_Rd, at_R, len(frozen.layers)), bias
