"""What a feature is connected to in any cell: products of weights, with no prompt (method §7).

A feature reads with its encoder row, through the norm's gain and, where the norm centres, centred. Directly
it reads earlier features (W_dec · W_enc) and tokens (de-embedding); through head (m, h) it reads them with
W_enc · O_h · V_h. It writes to output tokens with W_dec · W_U. Left out is all that depends on a cell: the
1/σ of every norm, attention weights, activations; and paths through skip terms, which have a 1/σ between.
Weights are made in blocks, of which only the largest are kept: never features × features.
Legend: J heads that may feed the feature, M rows of a block, F features of a layer, V tokens, d width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from scx_core.attribution.endpoints import attention_top
from scx_core.attribution.replacement_model import Replacement, check_feature
from scx_core.errors import ScxError

BLOCK = 4096  # rows of a block: times J weights at once


class Heads(NamedTuple):
    """The heads that may feed a feature, and what it reads through each of them: [J], [J], [J, d]."""

    layer_J: torch.Tensor
    head_J: torch.Tensor
    direction_Jd: torch.Tensor


class Top(NamedTuple):
    """The largest weights in absolute value, largest first: `weight_N`, with row and column of each.

    A column is a head of `Heads`; rows are what the function says. Without heads, `column_N` is 0.
    """

    weight_N: torch.Tensor
    row_N: torch.Tensor
    column_N: torch.Tensor


class Inputs(NamedTuple):
    """The largest connections into a feature: directly, and through one head."""

    direct: Top
    by_head: Top


def check_readable(rep: Replacement, layer: int, feature: int) -> None:
    """Raise ScxError when there is no such feature, or what features read depends on the prompt (SAEs)."""
    rep.transcoders.need_own_decoders("Connections")
    check_feature(rep, layer, feature)
    if any(maps.through is not None for maps in rep.layers):
        raise ScxError(
            f"{rep.transcoders.name} reads what MLPs write: without a prompt there are no weights into it.",
            "Use a set of transcoders, or trace a cell.",
        )


def heads_into(rep: Replacement, layer: int, feature: int) -> Heads:
    """What the feature reads through every head that the block form lets feed it (method §1)."""
    encoder_d = rep.layers[layer].reads(feature)
    reads = [encoder_d.new_zeros(0, len(encoder_d))]
    for maps in rep.layers[: attention_top(rep, layer)]:
        asked_Hk = torch.einsum("d,hkd->hk", encoder_d, maps.O_Hkd)
        reads.append(torch.einsum("hk,hkd->hd", asked_Hk, maps.V_Hkd))
    return _numbered(rep, 0, torch.cat(reads))


def largest(blocks: Iterator[tuple[int, torch.Tensor]], n: int, like: torch.Tensor) -> Top:
    """The `n` largest entries in absolute value over blocks of rows, each with the number of its first row;
    of the type and on the device of `like`. Ties go to the earlier row. Entries that are 0 are left out."""
    best = _largest(0, like.new_zeros(0, 1), n)
    for first, weight_MJ in blocks:
        other = _largest(first, weight_MJ, n)
        together = Top(*(torch.cat(pair) for pair in zip(best, other, strict=True)))
        order = torch.argsort(together.weight_N.abs(), descending=True, stable=True)[:n]
        best = Top(*(column[order] for column in together))
    return best


def _largest(first: int, weight_MJ: torch.Tensor, n: int) -> Top:
    flat_N = weight_MJ.flatten()
    index_N = flat_N.abs().topk(min(n, len(flat_N))).indices
    index_N = index_N[flat_N[index_N] != 0]
    width = max(1, weight_MJ.shape[1])
    return Top(flat_N[index_N], first + index_N // width, index_N % width)


@torch.no_grad()
def feature_inputs(rep: Replacement, layer: int, feature: int, n: int) -> Inputs:
    """The largest connections from features of earlier layers. A row is layer · F + feature.

    Raises ScxError when the set has no such feature.
    """
    check_readable(rep, layer, feature)
    heads, encoder_d = heads_into(rep, layer, feature), rep.layers[layer].reads(feature)
    direct = (
        (first, (dec_Md @ encoder_d)[:, None]) for first, _, dec_Md in _blocks(rep, "dec_Fd", range(layer))
    )
    by_head = (  # a head sees the features of the blocks in front of its own
        (first, (dec_Md @ heads.direction_Jd.T) * (heads.layer_J > k))
        for first, k, dec_Md in _blocks(rep, "dec_Fd", range(attention_top(rep, layer)))
    )
    return Inputs(largest(direct, n, encoder_d), largest(by_head, n, encoder_d))


def heads_from(rep: Replacement, layer: int, feature: int) -> Heads:
    """What every head of a later block writes of the feature: `direction_Jd` is the decoder vector
    behind it."""
    decoder_d = rep.layers[layer].dec_Fd[feature]
    writes = [decoder_d.new_zeros(0, len(decoder_d))]
    for maps in rep.layers[layer + 1 :]:
        value_Hk = torch.einsum("hkd,d->hk", maps.V_Hkd, decoder_d)
        writes.append(torch.einsum("hk,hkd->hd", value_Hk, maps.O_Hkd))
    return _numbered(rep, layer + 1, torch.cat(writes))


def _numbered(rep: Replacement, first: int, direction_Jd: torch.Tensor) -> Heads:
    """All heads of the layers from `first` on, in order."""
    number_J = torch.arange(len(direction_Jd), device=direction_Jd.device)
    n_heads = rep.lm.facts.n_heads
    return Heads(first + number_J // n_heads, number_J % n_heads, direction_Jd)


@torch.no_grad()
def feature_outputs(rep: Replacement, layer: int, feature: int, n: int) -> Inputs:
    """The largest connections to features of later layers. A row is layer · F + feature.

    Raises ScxError when the set has no such feature.
    """
    check_readable(rep, layer, feature)
    heads, decoder_d = heads_from(rep, layer, feature), rep.layers[layer].dec_Fd[feature]
    later = range(layer + 1, len(rep.layers))
    direct = ((first, (enc_Md @ decoder_d)[:, None]) for first, _, enc_Md in _blocks(rep, "enc_Fd", later))
    by_head = (  # the MLP of block k sees heads only up to its own attention, or below it (method §1)
        (first, (enc_Md @ heads.direction_Jd.T) * (heads.layer_J < attention_top(rep, k)))
        for first, k, enc_Md in _blocks(rep, "enc_Fd", later)
    )
    return Inputs(largest(direct, n, decoder_d), largest(by_head, n, decoder_d))


def _blocks(rep: Replacement, name: str, layers: range) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Rows of the encoders or decoders of some layers in blocks: number of the first row, layer, rows."""
    n_features = rep.transcoders.n_features
    for k in layers:
        for start in range(0, n_features, BLOCK):
            some = slice(start, start + BLOCK)
            maps = rep.layers[k]
            yield k * n_features + start, k, maps.reads(some) if name == "enc_Fd" else maps.dec_Fd[some]


@torch.no_grad()
def token_inputs(rep: Replacement, layer: int, feature: int, tokens: Sequence[int], n: int) -> Inputs:
    """The largest connections from some tokens' embeddings. A row indexes `tokens`.

    Embeddings are as they enter block 0, without a position's where a family adds one. Raises ScxError when
    the set has no such feature.
    """
    check_readable(rep, layer, feature)
    heads, encoder_d = heads_into(rep, layer, feature), rep.layers[layer].reads(feature)

    def through(direction_Jd: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        for start in range(0, len(tokens), BLOCK):
            yield start, _embedded(rep, tokens[start : start + BLOCK]) @ direction_Jd.T

    return Inputs(
        largest(through(encoder_d[None]), n, encoder_d), largest(through(heads.direction_Jd), n, encoder_d)
    )


def _embedded(rep: Replacement, tokens: Sequence[int]) -> torch.Tensor:
    """Embeddings of some tokens; the module knows whether its family scales them."""
    lm = rep.lm
    return lm.model.get_input_embeddings()(torch.tensor(list(tokens), device=lm.device)).to(lm.dtype)


@torch.no_grad()
def token_outputs(rep: Replacement, layer: int, feature: int, n: int) -> Top:
    """The tokens whose logit the feature moves most, directly, through the last norm's gain.

    Weights are less their mean over the vocabulary, which moves no probability. A row is a token. Raises
    ScxError when the set has no such feature.
    """
    check_readable(rep, layer, feature)
    decoder_d, W_U_Vd = rep.layers[layer].dec_Fd[feature], rep.lm.unembedding
    parts = [
        rep.final_norm.fold(W_U_Vd[start : start + BLOCK]) @ decoder_d
        for start in range(0, len(W_U_Vd), BLOCK)
    ]
    weight_V = torch.cat(parts)
    return _largest(0, (weight_V - weight_V.mean())[:, None], n)
