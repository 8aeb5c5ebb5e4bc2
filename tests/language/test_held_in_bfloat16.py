"""A model that is held in bfloat16 gives the numbers of its own weights in float32."""

import copy

import pytest
import torch

from scx_core.circuits import TraceConfig, make_tracer
from scx_core.language import forward, load_language
from scx_core.language.weights import head_weights, mlp_weights, norm_weights
from tests.tiny import OTHER_FAMILIES, freed_at_once, random_set, save_tiny, tiny_table


@pytest.fixture(params=["gpt_neox", *OTHER_FAMILIES])
def pair(request, tmp_path):
    """A model held in bfloat16, and the same weights in float32."""
    held = load_language(save_tiny(tmp_path, family=request.param), "cpu", "bfloat16")
    held.model.save_pretrained(tmp_path)
    return held, load_language(tmp_path, "cpu", "float32")


def test_logits_weights_and_gradients_are_those_of_float32(pair):
    held, whole = pair
    ids_BT = torch.randint(1, 300, (2, 30), generator=torch.Generator().manual_seed(0))
    logits = [forward(lm, ids_BT, torch.ones_like(ids_BT)) for lm in pair]
    assert logits[0].dtype == held.dtype == torch.float32 and torch.equal(*logits)
    assert {p.dtype for p in held.model.parameters()} == {torch.bfloat16}, "held as it was"
    for read in (lambda lm: head_weights(lm, 1), lambda lm: mlp_weights(lm, 0)):
        for a, b in zip(read(held), read(whole), strict=True):
            assert not isinstance(a, torch.Tensor) or torch.equal(a, b)
    kind = held.facts.family.norm
    assert torch.equal(
        norm_weights(kind, held.final_norm).gain_d, norm_weights(kind, whole.final_norm).gain_d
    )
    assert torch.equal(held.embedding, whole.embedding) and torch.equal(held.unembedding, whole.unembedding)


def test_its_weights_are_freed_as_soon_as_nobody_needs_it(pair):
    assert freed_at_once([copy.deepcopy(pair[0].model)])


def test_what_training_casts_is_the_same_from_either(pair):
    ids_BT = torch.randint(1, 300, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits = [forward(lm, ids_BT, torch.ones_like(ids_BT)) for lm in pair]
    assert torch.equal(*logits)


def test_its_circuit_adds_up(tmp_path):
    lm = load_language(save_tiny(tmp_path), "cpu", "bfloat16")
    tracer = make_tracer(lm, random_set(lm, "jumprelu", skip=True), tiny_table(5))
    account = tracer.cell(0, cfg=TraceConfig(nodes=30)).accounting
    assert account["max_relative_error"] < 1e-4
