"""The intervals of `scx_core.intervals`, which earlier rooms need too, under the name of this room."""

from scx_core.intervals import RESAMPLES, SEED, UNKNOWN, Z95, Interval, bootstrap, wilson

__all__ = ["RESAMPLES", "SEED", "UNKNOWN", "Z95", "Interval", "bootstrap", "wilson"]
