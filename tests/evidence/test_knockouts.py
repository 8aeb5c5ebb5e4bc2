"""Measured knock-outs against the plain way: write the edited sentence anew, run the model on all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scx_core.cells import open_cells
from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence import Editor, Measurer, knock_out_all, knock_out_together
from scx_core.language import answers_of, load_language, text_limit
from scx_core.sentences import encode, gene_sentences
from scx_core.transcoders import load_set
from tests.tiny import LABELS, OTHER_FAMILIES, random_set, tiny_language, tiny_table

MODELS = [{"family": family} for family in OTHER_FAMILIES] + [{"parallel": True}, {"parallel": False}]


@pytest.fixture(scope="module")
def embedded():
    return make_tracer(load_language("embedded", "cpu"), load_set("embedded"), open_cells("embedded"))


def tiny_tracer(folder, **model):
    lm = tiny_language(folder, **model)
    return make_tracer(lm, random_set(lm, "relu", skip=False), tiny_table(20))


def plain(tracer, plan, ids) -> tuple[float, float]:
    """Target and log-odds of the label by one pass over each whole answer, nothing shared."""
    ids, scores = list(ids), {}
    with torch.no_grad():
        for label, answer in answers_of(tracer.lm, tracer.labels, tracer.lead).items():
            logits = tracer.lm.model(input_ids=torch.tensor([[*ids, *answer]]), use_cache=False).logits[0]
            logp_TV = logits.double().log_softmax(-1)
            scores[label] = sum(float(logp_TV[len(ids) - 1 + i, token]) for i, token in enumerate(answer))
        whole = torch.tensor([[*ids, *plan.forced]])
        logits_V = tracer.lm.model(input_ids=whole, use_cache=False).logits[0, -1].double()
    target = sum(weight * float(logits_V[token]) for token, weight in plan.coefficients.items())
    if plan.kind == "answer":
        target = scores[plan.answer] - float(np.logaddexp.reduce([scores[name] for name in plan.against]))
    rivals = [score for label, score in scores.items() if label != plan.answer]
    return target, scores[plan.answer] - float(np.logaddexp.reduce(rivals))


def written(tracer, genes) -> tuple[int, ...]:
    """A sentence of these genes as `encode` writes it."""
    cfg, table = tracer.lm.sentence_config, tracer.table
    room = text_limit(tracer.lm, tracer.table)
    words = {"organism": table.organism, "num_genes": cfg.n_genes, "max_tokens": room}
    return encode(tracer.lm.tokenizer, tracer.lm.prompt, genes[: cfg.n_genes], **words).ids


def ranking(tracer, row) -> list[str]:
    """All genes of a cell, highest expression first."""
    return gene_sentences(tracer.table, [row], tracer.table.n_genes, tracer.lm.sentence_config.tie_seed)[0]


def check(tracer, row, label, names, limit) -> None:
    plan, editor = tracer.plan(label), Editor(tracer)
    found = Measurer(tracer, plan, editor).singles(row)
    cell, genes = tracer.encode([row])[0], ranking(tracer, row)
    assert [gene.gene for gene in found.genes] == cell.genes
    before = plain(tracer, plan, cell.ids)
    assert (found.target, found.log_odds) == pytest.approx(before, abs=limit)
    for number in names:
        gene, span = found.genes[number], cell.spans[number]
        without = plain(tracer, plan, written(tracer, [name for name in genes if name != gene.gene]))
        assert (gene.text, gene.text_log_odds) == pytest.approx(np.subtract(before, without), abs=limit)
        neutral = editor.neutral(span.end - span.start, editor.sentence(row))
        assert len(neutral.ids) == span.end - span.start
        ids = cell.ids[: span.start] + neutral.ids + cell.ids[span.end :]
        masked = plain(tracer, plan, ids)
        assert (gene.gap, gene.gap_log_odds) == pytest.approx(np.subtract(before, masked), abs=limit)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_family_agrees_with_the_plain_way(tmp_path, model):
    tracer = tiny_tracer(tmp_path, **model)
    for row, label in ((3, LABELS[3]), (8, LABELS[0])):
        check(tracer, row, label, (0, 1, len(tracer.encode([row])[0].spans) - 1), 1e-5)


def test_the_model_is_left_as_it_was(tmp_path):
    tracer = tiny_tracer(tmp_path)
    ids = torch.tensor([tracer.encode([3])[0].ids])
    before = tracer.lm.model(input_ids=ids, output_attentions=True)
    Measurer(tracer, tracer.plan(LABELS[0])).singles(3)
    after = tracer.lm.model(input_ids=ids, output_attentions=True)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.attentions[-1], after.attentions[-1])


def test_the_embedded_model_agrees_to_the_fifth_digit(embedded):
    row = int(np.flatnonzero(embedded.table.labels == "CD4+/CD25 T Reg")[0])
    check(embedded, row, "CD4+/CD25 T Reg", (0, 1, 60, 78, 79), 1e-5)


def test_other_edits_are_those_of_the_table(embedded):
    plan, editor = embedded.plan("CD19+ B"), Editor(embedded)
    row = int(np.flatnonzero(embedded.table.labels == "CD19+ B")[0])
    sentence, genes = editor.sentence(row, extra=3), ranking(embedded, row)
    held, absent = [genes[4], genes[60], genes[2]], genes[-1]
    assert absent not in sentence.cell.genes
    rest = [gene for gene in genes if gene not in held]
    assert editor.together(sentence, held, "text") == written(embedded, rest)
    assert editor.together(sentence, held, "front") == written(embedded, held + rest)
    # What is moved to the end keeps its order.
    last = [gene for gene in genes[:80] if gene not in held] + [genes[2], genes[4], genes[60]]
    assert editor.together(sentence, held, "end") == written(embedded, last)
    assert editor.together(sentence, [absent], "text") == sentence.cell.ids
    assert editor.together(sentence, [absent], "front") == written(embedded, [absent, *genes])
    joint = knock_out_together(embedded, [row], plan, [*held, absent])[0]
    assert joint.held == (genes[4], genes[60], genes[2])
    before, after = plain(embedded, plan, sentence.cell.ids), plain(embedded, plan, written(embedded, rest))
    assert (joint.target, joint.log_odds) == pytest.approx(np.subtract(before, after), abs=1e-5)


def test_the_gene_that_moves_up_is_the_next_of_the_ranking(embedded):
    editor, row = Editor(embedded), 5
    sentence, genes = editor.sentence(row), ranking(embedded, row)
    edited = editor.singles(sentence, [genes[10]], "text")[0]
    text = embedded.lm.tokenizer.decode(edited)
    assert "top 80 genes" in text
    assert text.split(": ")[1].split(".\n")[0].split(" ") == [g for g in genes[:81] if g != genes[10]]


def test_a_gene_that_is_not_there_is_said_to_be(embedded):
    plan = embedded.plan("CD19+ B")
    with pytest.raises(ScxError, match="no gene 'NOSUCH'"):
        knock_out_together(embedded, [0], plan, ["NOSUCH"])
    absent = ranking(embedded, 0)[-1]
    for ask in (knock_out_all, knock_out_together):
        with pytest.raises(ScxError, match=f"holds none of {absent}"):
            ask(embedded, [0], plan, genes=[absent])
    with pytest.raises(ScxError, match="no edit"):
        knock_out_together(embedded, [0], plan, [ranking(embedded, 0)[0]], way="sideways")


def test_progress_counts_cells_and_does_not_show_rows_of_the_file(tmp_path):
    tracer, told = tiny_tracer(tmp_path), []
    plan, rows = tracer.plan(LABELS[0]), [17, 3]
    knock_out_all(tracer, rows, plan, progress=lambda done, total, text="": told.append(text))
    tracer.merged(rows, plan, progress=lambda done, total, text="": told.append(text))
    assert [text.rpartition(": ")[2] for text in told] == ["cell 1 of 2", "cell 2 of 2"] * 2
