"""Circuits by prompt, and how far they agree."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from scx_core.circuits import Circuit, ConsensusConfig, make_tracer
from scx_core.circuits.stability import alike, prompt_agreement, prompts_of, with_prompt
from scx_core.cli import main
from scx_core.errors import ScxError
from scx_core.runs import to_dict
from tests.tiny import LABELS, tiny_language, tiny_table
from tests.validation.sets import random_set

OTHER = "{organism}: {cell_sentence}. This is:"
CFG = ConsensusConfig(cells=4, min_share=0.0, nodes=60)


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("tiny"))
    coders = random_set(lm)
    coders.meta["sentences"] = to_dict(lm.sentence_config)
    return make_tracer(lm, coders, tiny_table(20))


def test_two_rankings_are_compared_by_hand():
    first = {"A": 3.0, "B": -2.0, "C": 1.0}
    found = alike(first, {"A": 3.0, "B": 2.0, "D": 1.0})
    assert found.jaccard == {10: 0.5, 20: 0.5} and found.n == 4
    ranks = np.corrcoef([4, 1, 3, 2], [4, 3, 1, 2])[0, 1]  # of A, B, C, D: 3 −2 1 0 and 3 2 0 1
    assert found.spearman == pytest.approx(ranks)
    assert alike(first, first).spearman == pytest.approx(1.0) and isnan(alike({"A": 1.0}, {}).spearman)


def test_each_prompt_gives_the_circuit_that_it_gives_alone(tracer):
    found = prompt_agreement(tracer, LABELS[0], ["scx", OTHER], cfg=CFG)
    assert found.circuits["scx"] == tracer.consensus(LABELS[0], cfg=CFG)
    alone = with_prompt(tracer, OTHER)
    assert found.circuits[OTHER] == alone.consensus(LABELS[0], cfg=CFG)
    assert alone.encode([0])[0].text.startswith("Homo sapiens: ")
    effects = [{gene.gene: gene.effect for gene in found.circuits[name].genes} for name in ("scx", OTHER)]
    assert found.pairs[0].genes.spearman == pytest.approx(alike(*effects).spearman)
    assert len(found.halves) == 10 and found.called("scx")[1] == 4


def test_a_prompt_that_the_set_was_not_trained_on_is_marked(tracer):
    found = prompt_agreement(tracer, LABELS[0], ["scx", OTHER], cfg=CFG)
    assert found.other_text == (OTHER,)
    assert "as_is" not in found.circuits["scx"].provenance["transcoders"]
    assert found.circuits[OTHER].provenance["transcoders"]["as_is"]["prompt"] == {
        "trained": "scx",
        "used": OTHER,
    }
    record = found.to_json()
    assert [row["trained_on"] for row in record["prompts"]] == [True, False]
    assert Circuit.from_json(record["circuits"][OTHER]) == found.circuits[OTHER]


def test_the_prompts_asked_for_are_at_least_two_that_exist(tracer):
    assert prompts_of(tracer.lm, ["scx", OTHER]) == ["scx", OTHER]
    with pytest.raises(ScxError, match="Only one prompt"):
        prompts_of(tracer.lm, ["all"])
    with pytest.raises(ScxError, match="no prompt template"):
        prompts_of(tracer.lm, ["scx,nonsense"])


def test_the_command_says_what_cells_alone_decide(capsys):
    asked = ["--prompts", "scx", "--prompts", OTHER]
    assert main(["circuit", "--type", "CD19+ B", "--cells", "4", *asked]) == 0
    shown = capsys.readouterr().out
    assert "2 prompts, the same cells for each" in shown and "between halves of the cells" in shown
    assert "genes: Jaccard of the top 10" in shown and "used as they are" in shown
    assert main(["circuit", "--prompts", "all", "--quiet"]) == 2
