"""What changes from step to step: the learning rate, and how many features may be active."""

from __future__ import annotations

from scx_core.training.config import TrainConfig, TranscoderConfig


def learning_rate(cfg: TrainConfig, step: int) -> float:
    """Linear warm-up, flat, then linear to 0 over the last `decay` share of the steps."""
    rise = min(1.0, (step + 1) / max(1, cfg.warmup))
    fall = min(1.0, (cfg.steps - step) / max(1.0, cfg.decay * cfg.steps))
    return cfg.learning_rate * rise * fall


def features_of_step(cfg: TranscoderConfig, train: TrainConfig, step: int) -> int:
    """k of a step: from 4k down to k over the first `anneal` share, so that early on many features learn.

    For a controlled kind, the target of its controller.
    """
    span = train.anneal * train.steps
    left = max(0.0, 1 - step / span) if span else 0.0
    wanted = cfg.wanted if cfg.controlled else cfg.k
    return max(1, round(wanted * (1 + 3 * left)))
