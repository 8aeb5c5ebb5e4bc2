"""Fast attributions: slopes against autograd through the plain model, and against what they estimate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from scx_core.cells import open_cells
from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence import Editor, Measurer
from scx_core.evidence.knockouts.estimates import FAST, Attributor, estimated
from scx_core.evidence.knockouts.prediction import MEASURED, PredictConfig, judge, scores_of_type, to_json
from scx_core.language import load_language
from scx_core.transcoders import load_set
from tests.evidence.test_knockouts import MODELS, tiny_tracer
from tests.tiny import LABELS


@pytest.fixture(scope="module")
def embedded():
    return make_tracer(load_language("embedded", "cpu"), load_set("embedded"), open_cells("embedded"))


def attributor(tracer, row, label, kind="auto") -> Attributor:
    measurer = Measurer(tracer, tracer.plan(label, kind=kind))
    return Attributor(measurer, measurer.editor.sentence(row))


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_slopes_are_those_of_the_plain_model(tmp_path, model):
    tracer = tiny_tracer(tmp_path, **model)
    plan = tracer.plan(LABELS[0], kind="contrast")
    one = attributor(tracer, 3, LABELS[0], "contrast")
    ids = torch.tensor([[*one.cell.sentence.cell.ids, *plan.forced]])
    x_BTd = tracer.lm.model.get_input_embeddings()(ids).detach().requires_grad_(True)
    logits_V = tracer.lm.model(inputs_embeds=x_BTd, use_cache=False).logits[0, -1]
    value = sum(weight * logits_V[token] for token, weight in plan.coefficients.items())
    (slope_BTd,) = torch.autograd.grad(value, x_BTd)
    theirs_Td = slope_BTd[0, : len(one.cell.x_Td)]
    torch.testing.assert_close(one.slope_Td, theirs_Td, rtol=1e-4, atol=1e-5)
    # With all patterns held something else comes out: they do matter in these models.
    held_Td = one.slopes_at(one.cell.x_Td[None], range(tracer.lm.facts.n_layers))[0]
    assert not torch.allclose(held_Td, theirs_Td, rtol=1e-3, atol=1e-5)


def test_frozen_is_the_account_of_the_circuit(embedded):
    one = attributor(embedded, 3, "CD19+ B")
    account = [gene.effect for gene in embedded.gene_effects(3, "CD19+ B")]
    np.testing.assert_allclose(FAST["frozen"](one), account, atol=1e-5)


def test_integrated_slopes_add_up_to_the_way(embedded):
    """Along the way from all genes to all neutral, slopes add up to the difference of the ends."""
    row = int(np.flatnonzero(embedded.table.labels == "CD19+ B")[0])
    one = attributor(embedded, row, "CD19+ B")
    measurer, sentence = one.measurer, one.cell.sentence
    gone = measurer.editor.together(sentence, sentence.cell.genes, "gap")
    values = measurer.read(sentence, [sentence.cell.ids, gone]).target
    assert one.integrated(16).sum() == pytest.approx(values[0] - values[1], rel=0.1)


def test_the_estimate_predicts_what_the_frozen_account_does_not(embedded):
    """On two cells of two types: the estimated knock-out is near the measured one, beyond what rank gives."""
    for label in ("CD56+ NK", "CD14+ Monocyte"):
        row = int(np.flatnonzero(embedded.table.labels == label)[1])
        measurer = Measurer(embedded, embedded.plan(label), Editor(embedded))
        gap = np.array([gene.gap for gene in measurer.singles(row, ways=("gap",)).genes])
        sentence = measurer.editor.sentence(row)
        best = spearmanr(estimated(measurer, sentence), gap).statistic
        others = [
            spearmanr(FAST[name](Attributor(measurer, sentence)), gap).statistic
            for name in ("frozen", "rank")
        ]
        assert best > 0.7 and best > max(others)


def test_the_table_judges_on_cells_that_did_not_choose(embedded):
    genes = np.linspace(-1, 1, 30)
    cells = [{"gap": genes, "text": -genes, "good": genes, "bad": -genes} for _ in range(5)]
    found = scores_of_type("made up", cells, np.arange(5), None)
    assert (found.n_first, found.n_second) == (3, 2)
    assert found.second["good"].gap == (1.0, 1.0, 1.0)
    assert found.second["bad"].gap.mean == pytest.approx(-1.0)
    assert found.second["bad"].text.mean == pytest.approx(1.0)
    assert found.second["bad"].sign.mean == 0.0


@pytest.mark.slow
def test_all_attributions_are_judged(tmp_path):
    tracer, cfg = tiny_tracer(tmp_path), PredictConfig(cells=4)
    result = to_json(judge(tracer, [LABELS[0]], cfg), cfg)
    names = set(result["types"][0]["second"])
    assert names == {*FAST, *MEASURED, "t_test"}
    assert result["chosen"] in names - set(MEASURED)


@pytest.mark.parametrize("labels", [[], ["nobody"]], ids=["no type", "a type of no cells"])
def test_types_that_cannot_be_judged_are_said(embedded, labels):
    with pytest.raises(ScxError, match="cell type with enough cells" if not labels else "nobody has fewer"):
        judge(embedded, labels)
