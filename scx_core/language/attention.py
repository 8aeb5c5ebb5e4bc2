"""Fused attention, where nobody reads its patterns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scx_core.language.loading import Language


@contextmanager
def fast_attention(lm: Language) -> Iterator[None]:
    """Fused attention inside. A model is loaded with the slow one, which shows its patterns to the tracer;
    the outputs agree to float32 rounding. Nothing changes for a family that has no other."""
    if not lm.facts.family.fused_attention:
        yield
        return
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)
