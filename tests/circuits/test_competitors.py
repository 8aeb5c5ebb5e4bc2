"""Whose answer a circuit explains, against whom, how often the model gives it: recorded and said."""

from __future__ import annotations

import json

import pytest

from scx_core.attribution.target import plan_target
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, make_tracer
from scx_core.circuits.circuit import NOTHING
from scx_core.circuits.words.wording import (
    answer_frequency,
    circuit_sentences,
    competitor_sentences,
    faint_note,
)
from scx_core.runs.files import to_json_text
from scx_core.statistics.intervals import wilson
from tests.figures.fakes import consensus_circuit
from tests.tiny import LABELS, random_set, renamed_table, tiny_language

T_REG, MEMORY = "CD4+/CD25 T Reg", "CD4+/CD45RO+ Memory"


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"), dtype="float32")
    return make_tracer(lm, random_set(lm, "jumprelu", skip=False), renamed_table())


@pytest.mark.parametrize("label", LABELS)
def test_the_rule_leaves_no_competitor_out(tracer, label):
    """One token where one parts the answer from all and is nobody else's; whole answers everywhere else."""
    plan = tracer.plan(label)
    assert set(plan.against) == set(LABELS) - {label} and plan.left_out == () and plan.same_target == ()
    alone = tracer.plan(label, kind="contrast")
    enough = set(alone.against) == set(plan.against) and not alone.same_target
    assert plan.kind == ("contrast" if enough else "answer")


def test_a_pair_whose_token_is_a_third_types_too_is_read_as_whole_answers(tracer):
    """T Reg against Dendritic: at the first token alone, Memory and others would give the same circuit."""
    by_token = tracer.plan(T_REG, ["Dendritic"], "contrast")
    assert MEMORY in by_token.same_target and MEMORY in by_token.left_out
    other = tracer.plan(MEMORY, ["Dendritic"], "contrast")
    assert (other.forced, other.coefficients) == (by_token.forced, by_token.coefficients)
    plan = tracer.plan(T_REG, ["Dendritic"])
    assert plan.kind == "answer" and plan.against == ("Dendritic",) and MEMORY in plan.left_out
    pair = tracer.plan(T_REG, [MEMORY])
    assert pair.kind == "contrast" and pair.left_out and T_REG not in pair.left_out


@pytest.mark.parametrize("label", LABELS)
def test_called_is_what_the_model_predicts(tracer, label):
    cfg = ConsensusConfig(cells=5, nodes=8)
    rows = tracer.draw(label, cfg)
    for kind in ("auto", "contrast", "logprob"):
        found = tracer.consensus(label, trace=TraceConfig(target=kind), cfg=cfg)
        assert found.scores["called"] == tracer.predict(rows).count(label) / len(rows)
    one = tracer.cell(int(rows[0]), label=label, cfg=TraceConfig(nodes=8))
    assert one.scores["called"] == float(tracer.predict(rows[:1]) == [label])


def test_shares_of_the_competitors_add_up_and_travel(tracer):
    found = tracer.consensus("CD19+ B", trace=TraceConfig(target="answer"), cfg=ConsensusConfig(cells=3))
    target = found.target
    assert len(target.rival_shares) == len(target.against) == len(LABELS) - 1
    assert sum(target.rival_shares) == pytest.approx(1.0) and target.branches == () and target.unit == "nats"
    again = Circuit.from_json(json.loads(to_json_text(found.to_json())))
    assert again == found
    cell = tracer.cell(0, label="CD19+ B", cfg=TraceConfig(target="answer", nodes=8))
    assert len(cell.target.branches) > 1
    assert Circuit.from_json(json.loads(to_json_text(cell.to_json()))) == cell
    assert cell.scores["probability"] < 1


def test_every_sentence_says_what_is_recorded(tracer):
    cfg = ConsensusConfig(cells=4, nodes=8)
    found = tracer.consensus(T_REG, trace=TraceConfig(target="contrast"), cfg=cfg)
    said = " ".join(circuit_sentences(found))
    for name in LABELS:
        assert name == T_REG or name in said
    assert "Says nothing about" in said or not found.target.left_out
    k = round(found.scores["called"] * found.n_cells)
    low, high = wilson(k, found.n_cells)
    assert f"for {k} of the {found.n_cells} cells ({low:.0%} to {high:.0%})" in answer_frequency(found)


def test_a_target_of_next_to_nothing_is_said_to_be_nothing():
    circuit = consensus_circuit()
    assert not circuit.faint and faint_note(circuit) == ""
    small = circuit._replace(target=circuit.target._replace(value=0.04))
    assert small.faint and "Nothing to explain: the score is 0.04" in faint_note(small)
    genes = circuit._replace(scores=circuit.scores | {"gene_effect": NOTHING / 2})
    assert genes.faint and "all genes together add 0.05" in faint_note(genes)
    assert circuit_sentences(genes)[0] == faint_note(genes)


def test_a_file_of_format_1_is_read_and_claims_nothing_that_it_did_not_measure(tracer):
    old = json.loads(to_json_text(consensus_circuit().to_json()))
    for key in ("left_out", "same_target", "rival_shares", "branches"):
        del old["target"][key]
    old["schema_version"], old["scores"]["called"] = 1, 0.84
    found = Circuit.from_json(old)
    assert found.target.left_out is None and found.scores["token_preferred"] == 0.84
    assert answer_frequency(found) == "" and "does not say which" in " ".join(
        competitor_sentences(found.target)
    )


def test_plan_target_by_default_is_the_rule(tracer):
    plan = plan_target(tracer.lm, LABELS, "Dendritic", lead=" ")
    assert plan == tracer.plan("Dendritic")
    assert plan.kind == "contrast" and len(plan.against) == len(LABELS) - 1
