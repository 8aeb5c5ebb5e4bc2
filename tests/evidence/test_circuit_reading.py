"""What the features of a circuit read: the same however many edited prompts are read at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scx_core.evidence import circuit_reading
from scx_core.evidence.circuit_reading import _readings
from scx_core.evidence.knockouts.edits import Editor
from scx_core.language import mlp_io
from scx_core.runs.micro_batch import TooLarge
from scx_core.sentences import pad_left
from tests.builders.evidence import LABEL, tiny_tracer

NODES = np.array([[1, 3], [0, 5], [1, 0], [0, 2]])
ROWS = np.array([0, 1, 7])


@pytest.fixture
def sizes(monkeypatch):
    """Prompts and tokens of each pass of the model; more prompts than `most` do not fit into the memory."""
    seen: list[tuple[int, int]] = []
    limit = {"most": 10_000}

    def counted(lm, ids_RT, mask_RT, **more):
        seen.append(tuple(ids_RT.shape))
        if len(ids_RT) > limit["most"]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return mlp_io(lm, ids_RT, mask_RT, **more)

    monkeypatch.setattr(circuit_reading, "mlp_io", counted)
    return seen, limit


def _all_at_once() -> list[dict[str, float]]:
    """By definition, one pass a cell: mean over the cells of the squared change at the last token."""
    tracer = tiny_tracer()
    plan, editor = tracer.plan(tracer.answer_for(LABEL)), Editor(tracer)
    found: list[dict[str, float]] = [{} for _ in NODES]
    for row in ROWS.tolist():
        sentence = editor.sentence(row)
        prompts = [sentence.cell.ids, *editor.singles(sentence, sentence.cell.genes, "text")]
        ids, mask = pad_left([[*one, *plan.forced] for one in prompts], tracer.lm.pad_id)
        io = mlp_io(tracer.lm, torch.from_numpy(ids), torch.from_numpy(mask))
        for one, (layer, feature) in zip(found, NODES.tolist(), strict=True):
            with torch.no_grad():
                z_R = (
                    tracer.rep.transcoders.layers[layer].encode(io.inputs[layer][:, -1])[:, feature].double()
                )
            for gene, z in zip(sentence.cell.genes, z_R[1:].tolist(), strict=True):
                one[gene] = one.get(gene, 0.0) + (z - z_R[0].item()) ** 2 / len(ROWS)
    return found


def _same(found: list[dict[str, float]], wanted: list[dict[str, float]]) -> None:
    assert any(value > 1e-8 for one in wanted for value in one.values()), "something changes"
    for one, other in zip(found, wanted, strict=True):
        assert list(one) == list(other)
        np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=1e-3, atol=1e-9)


def _read() -> list[dict[str, float]]:
    tracer = tiny_tracer()
    return _readings(tracer, tracer.plan(tracer.answer_for(LABEL)), ROWS, NODES)


@pytest.mark.parametrize(("rows", "tokens"), [(64, 8192), (3, 8192), (1, 8192), (64, 1), (64, 60)])
def test_pieces_of_any_size_read_the_same_and_are_no_larger(monkeypatch, sizes, rows, tokens):
    monkeypatch.setattr(circuit_reading, "ROWS", rows)
    monkeypatch.setattr(circuit_reading, "TOKENS", tokens)
    _same(_read(), _all_at_once())
    seen, _ = sizes
    assert all(n <= rows and (n == 1 or n * width <= tokens) for n, width in seen)


def test_where_the_memory_does_not_suffice_less_is_read_at_a_time(sizes, capsys):
    seen, limit = sizes
    limit["most"] = 2
    _same(_read(), _all_at_once())
    counts = [n for n, _ in seen]
    assert min(counts) <= 2 < max(counts) and sum(n > 2 for n in counts) <= 5, "what fits is remembered"
    assert "edited prompts at a time" in capsys.readouterr().err


def test_where_not_one_prompt_fits_it_is_said(sizes):
    _, limit = sizes
    limit["most"] = 0
    with pytest.raises(TooLarge, match="edited prompts, one at a time"):
        _read()
