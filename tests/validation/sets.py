"""Transcoder sets with known answers for a tiny model."""

from __future__ import annotations

import torch

from scx_core.language import Language
from scx_core.transcoders import Transcoder, TranscoderSet


def exact_set(lm: Language) -> TranscoderSet:
    """The MLPs themselves, written as ReLU transcoders (for models with hidden_act="relu")."""
    mlps = [lm.part(k, "mlp") for k in range(lm.facts.n_layers)]
    return TranscoderSet(
        tuple(
            Transcoder(
                mlp.dense_h_to_4h.weight,
                mlp.dense_h_to_4h.bias,
                mlp.dense_4h_to_h.weight.T,
                mlp.dense_4h_to_h.bias,
            )
            for mlp in mlps
        )
    )


def constant_set(lm: Language, values_Ld: list[torch.Tensor]) -> TranscoderSet:
    """Transcoders without an active feature that write the same vector whatever they read."""
    return TranscoderSet(tuple(_silent(lm, value_d) for value_d in values_Ld))


def _silent(lm: Language, value_d: torch.Tensor) -> Transcoder:
    nothing_Fd = torch.zeros(8, lm.facts.width, dtype=lm.dtype)
    return Transcoder(nothing_Fd, nothing_Fd[:, 0] - 1, nothing_Fd, value_d.to(lm.dtype))


def random_set(lm: Language, n_features: int = 40, seed: int = 0, k: int | None = 5) -> TranscoderSet:
    """Random TopK transcoders (ReLU when k is None), two of their features dead by construction."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(lm.dtype)

    layers = []
    for _ in range(lm.facts.n_layers):
        b_enc_F = draw(n_features)
        b_enc_F[:2] = -1e3
        d = lm.facts.width
        layers.append(
            Transcoder(
                draw(n_features, d),
                b_enc_F,
                0.1 * draw(n_features, d),
                draw(d),
                kind="relu" if k is None else "topk",
                k=k,
            )
        )
    return TranscoderSet(tuple(layers))
