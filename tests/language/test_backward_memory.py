"""Passes with gradients take as many texts as a processor's memory holds; the figures are the same."""

from __future__ import annotations

import pytest
import torch

from scx_core.evidence import Measurer
from scx_core.evidence.knockouts.estimates import FAST, Attributor
from scx_core.evidence.rankings.rankers import gradient_times_input
from scx_core.language import texts_with_gradients
from scx_core.language.numerics import backward_memory
from scx_core.language.numerics.backward_memory import kept_bytes
from tests.evidence.test_interventions import NO_NODES, Made
from tests.evidence.test_knockouts import tiny_tracer
from tests.tiny import LABELS, tiny_cells, tiny_language

CPU = torch.device("cpu")


@pytest.mark.parametrize("n_tokens", [40, 160])
def test_what_layers_keep_is_about_what_autograd_holds(tmp_path, n_tokens):
    lm = tiny_language(tmp_path / "model", dtype="float32")
    weights = {weight.untyped_storage().data_ptr() for weight in lm.model.parameters()}
    held: dict[int, int] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    x_1Td = lm.model.get_input_embeddings()(torch.arange(n_tokens)[None] % 300).detach().requires_grad_(True)
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        hidden = lm.model.base_model(inputs_embeds=x_1Td, use_cache=False).last_hidden_state
        assert hidden.requires_grad
    assert sum(held.values()) == pytest.approx(kept_bytes(lm.facts, n_tokens), rel=0.6)


def test_long_texts_go_one_by_one_on_a_processor_and_as_before_on_a_card(tmp_path):
    facts = tiny_language(tmp_path / "model").facts
    large = facts._replace(n_layers=24, width=1024, n_heads=16)  # Pythia-410m
    assert texts_with_gradients(facts, CPU, 30, 8) == 8
    assert texts_with_gradients(large, CPU, 445, 8) == 1
    assert texts_with_gradients(large, CPU, 4096, 8) == 1, "at least one"
    assert texts_with_gradients(large, torch.device("cuda"), 445, 8) == 8


def test_figures_are_those_of_larger_batches(tmp_path, monkeypatch):
    """Rankings by gradient, estimated knock-outs, gains of features; each in passes of one text."""
    tracer, made = tiny_tracer(tmp_path / "tracer"), Made(tmp_path / "made")
    plan, cells, sizes = tracer.plan(LABELS[0]), tiny_cells(tracer.lm)[:3], []
    measurer = Measurer(tracer, plan)
    one = Attributor(measurer, measurer.editor.sentence(0))

    def figures() -> list:
        own = [list(effects.values()) for effects in gradient_times_input(tracer.lm, plan, cells)]
        return [*own, FAST["integrated_4"](one), *made.tried.gains(NO_NODES)]

    whole = figures()
    monkeypatch.setattr(backward_memory, "MOST_BYTES", 1)

    def note(_module, given, named):
        texts = next(
            part for part in (*given, named.get("input_ids"), named.get("inputs_embeds")) if part is not None
        )
        sizes.append(len(texts))

    for lm in (tracer.lm, made.lm):
        lm.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    for some, all_at_once in zip(figures(), whole, strict=True):
        assert some == pytest.approx(all_at_once, rel=1e-5, abs=1e-6)
    assert len(sizes) >= 3 + 4 + 3 and set(sizes) == {1}
