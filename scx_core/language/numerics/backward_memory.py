"""How many texts a pass with gradients takes at a time.

What the layers keep for the way back grows with the tokens and, as patterns are kept, with their square: at
Pythia-410m's dimensions 1.5 GB of a text of 445 tokens, where a pass without gradients keeps next to nothing.
A graphics card says when its memory ends, and less is taken then; on a processor the system ends the process.
"""

from __future__ import annotations

import torch

from scx_core.language.architectures import Architecture

MOST_BYTES = 2**31  # on a processor
# Numbers that a layer keeps, of tokens × width and of heads × tokens²: Korthikanti et al., "Reducing
# Activation Recomputation in Large Transformer Models" (arXiv 2205.05198), section 4.1.
OF_WIDTH, OF_PATTERNS = 17.0, 2.5


def kept_bytes(facts: Architecture, n_tokens: int, number_bytes: int = 4) -> float:
    """What the layers keep of one text of so many tokens."""
    of_layer = OF_WIDTH * n_tokens * facts.width + OF_PATTERNS * facts.n_heads * n_tokens**2
    return facts.n_layers * of_layer * number_bytes


def texts_with_gradients(facts: Architecture, device: torch.device, n_tokens: int, most: int) -> int:
    """At most `most`; on a processor so many texts of these tokens as `MOST_BYTES` hold, at least one."""
    if device.type != "cpu":
        return most
    return max(1, min(most, int(MOST_BYTES / kept_bytes(facts, n_tokens))))
