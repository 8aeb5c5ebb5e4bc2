"""What a build will take is measured for each of its parts."""

from __future__ import annotations

from scx_core.build import BuildConfig, estimate_build
from scx_core.build.recipe import RecipeConfig
from scx_core.sentences import SentenceConfig
from scx_core.training.estimate import PROMPT_TOKENS, TOKENS_A_GENE


def test_every_part_has_its_time_memory_weights_and_tokens():
    recipe = RecipeConfig(width=16, layers=1, heads=2, readings=64, vocabulary=320, batch=4)
    cfg = BuildConfig(device="cpu", presets="quick", recipe=recipe, sentences=SentenceConfig(8))
    found = estimate_build(cfg, n_genes=20, n_cells=30)
    length = round(8 * TOKENS_A_GENE) + PROMPT_TOKENS
    assert list(found) == ["model", "quick"]
    assert [part.tokens_per_step for part in found.values()] == [4 * length, 8 * length]
    assert all(part.seconds > 0 and part.bytes > 4 * part.parameters > 0 for part in found.values())
