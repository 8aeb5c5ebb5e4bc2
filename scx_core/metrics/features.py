"""Which features are active, how many a token, which of them never are.

Legend: T tokens, F features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

# The ancestor's rule: a feature lives when log10 of its firing frequency is above this.
LIVE_LOG10 = -4.0


def active(z_TF: torch.Tensor) -> torch.Tensor:
    """Which features are active, bool, of activations behind the gate: those that are not 0. A JumpReLU
    threshold below 0 lets negative ones through: they write to the stream as any other does."""
    return z_TF != 0


def l0(fires: Any, n_tokens: float) -> float:
    """Mean active features a token, of how often each feature (tensor or array of any shape) is active on
    `n_tokens` tokens; nan without tokens."""
    return float(fires.sum()) / float(n_tokens) if n_tokens else float("nan")


def dead(fires_F: torch.Tensor | np.ndarray) -> Any:
    """Features that were never active on the tokens that were counted, bool [F]."""
    return fires_F == 0


def live(fires_F: torch.Tensor | np.ndarray, n_tokens: float) -> Any:
    """Features that are active more often than once in 10,000 tokens (10^`LIVE_LOG10`), bool [F]. A feature
    may be neither dead nor live: active once in a million tokens."""
    return fires_F > 10.0**LIVE_LOG10 * n_tokens
