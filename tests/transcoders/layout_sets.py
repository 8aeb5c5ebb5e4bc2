"""Random transcoder sets, and when two are the same, for the tests of layouts."""

import torch

from scx_core.transcoders import Transcoder, TranscoderSet


def random_set(
    kind: str, skip: bool, layers: int = 2, F: int = 6, d: int = 4, k: int = 2, seed: int = 0
) -> TranscoderSet:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    coders = []
    for _ in range(layers):
        weights = random(F, d), random(F), random(F, d), random(d), random(d, d) if skip else None
        gate = {"k": k if kind == "topk" else None}
        gate |= {"threshold_F": random(F).abs() if kind == "jumprelu" else None}
        coders.append(Transcoder(*weights, kind=kind, **gate))
    return TranscoderSet(tuple(coders), {"name": "random", "model_name": "a model"})


def inputs(transcoders: TranscoderSet, tokens: int = 300, seed: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, transcoders.width, generator=generator) for _ in transcoders.layers]


def same(first: TranscoderSet, second: TranscoderSet) -> bool:
    """Bit for bit: gates, names, shapes and values."""
    for a, b in zip(first.layers, second.layers, strict=True):
        one, other = a.tensors(), b.tensors()
        if (a.kind, a.k, set(one)) != (b.kind, b.k, set(other)):
            return False
        if not all(torch.equal(one[name], other[name]) for name in one):
            return False
    return True
