"""The tracer as people call it, on a tiny random model: cells, consensus, mistakes, other label names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scx_core.circuits import ConsensusConfig, TraceConfig, make_tracer
from scx_core.circuits.trace import token_paths, trace_graph
from scx_core.errors import ScxError
from scx_core.transcoders import Transcoder, TranscoderSet
from tests.tiny import renamed_table


def test_one_cell(tracer):
    circuit = tracer.cell(3, label="CD19+ B")
    assert circuit.accounting["max_relative_error"] < 1e-3
    assert circuit.sentence == tuple(gene.gene for gene in circuit.genes)
    assert [gene.rank for gene in circuit.genes] == list(range(1, len(circuit.genes) + 1))
    parts = ("gene_effect", "prompt_effect", "error_effect", "bias_effect")
    assert sum(circuit.scores[part] for part in parts) == pytest.approx(circuit.target.value, abs=1e-4)
    assert circuit.provenance["cell"]["cell_id"] == "cell3"
    assert {node.kind for node in circuit.nodes} >= {"feature", "bias", "target"}


def test_gene_effects_alone_are_the_circuits_own(tracer):
    alone = tracer.gene_effects(3, "CD19+ B")
    assert [g.effect for g in alone] == pytest.approx(
        [g.effect for g in tracer.cell(3, label="CD19+ B").genes]
    )


def test_the_same_inputs_give_the_same_circuit(tracer):
    assert tracer.cell(5, label="Dendritic") == tracer.cell(5, label="Dendritic")
    cfg = ConsensusConfig(cells=4, seed=3)
    assert tracer.consensus("Dendritic", cfg=cfg) == tracer.consensus("Dendritic", cfg=cfg)


def test_without_a_label_the_models_own_call_is_explained(tracer):
    assert tracer.cell(2).target.answer == tracer.predict([2])[0]


def test_one_competitor(tracer):
    circuit = tracer.cell(0, label="CD4+/CD25 T Reg", against=["CD4+/CD45RO+ Memory"])
    assert circuit.target.against == ("CD4+/CD45RO+ Memory",)
    assert len(circuit.target.coefficients) == 2
    assert circuit.target.teacher_forced, "the shared prefix is teacher-forced"
    assert circuit.target.position == len(circuit.token_ids) - 1


def test_consensus_is_the_mean_of_its_cells(tracer):
    cfg = ConsensusConfig(cells=5)
    found = tracer.consensus("CD19+ B", cfg=cfg)
    cells = [tracer.cell(row, label="CD19+ B") for row in tracer.draw("CD19+ B", cfg)]
    gene = found.genes[0]
    each = [sum(g.effect for g in cell.genes if g.gene == gene.gene) for cell in cells]
    assert gene.effect == pytest.approx(np.mean(each), rel=1e-5)
    assert found.n_cells == 5
    assert found.provenance["cells"] == [int(row) for row in tracer.draw("CD19+ B", cfg)]


def test_a_type_without_an_answer_is_refused_and_mapped_or_asked_for_by_name(tracer):
    name = "B cells of the liver"
    other = make_tracer(tracer.lm, tracer.transcoders, renamed_table({"CD19+ B": name}))
    with pytest.raises(ScxError, match=f"no answer for the type '{name}'; it calls") as error:
        other.consensus(name, cfg=ConsensusConfig(cells=3))
    assert other.commonest_answer(name)[0] in error.value.problem
    named = other.consensus(name, answer="Dendritic", cfg=ConsensusConfig(cells=3))
    assert named.target.answer == "Dendritic"
    told = replace(renamed_table({"CD19+ B": name}), given_answers={name: "CD19+ B"})
    mapped = make_tracer(tracer.lm, tracer.transcoders, told)
    assert mapped.consensus(name, cfg=ConsensusConfig(cells=3)).target.answer == "CD19+ B"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: t.cell(99), "no cell 99"),
        (lambda t: t.cell(0, label="Neuron"), "Neuron"),
        (lambda t: t.cell(0, label="CD19+ B", against=["Neuron"]), "Neuron"),
        (lambda t: t.cell(0, label="CD19+ B", against=["CD19+ B"]), "nothing"),
        (lambda t: t.consensus("Neuron"), "Neuron"),
        (lambda t: t.plan("CD19+ B", kind="odd"), "odd"),
        (lambda t: t.cell(0, cfg=TraceConfig(nodes=1), label=""), "no answer"),
    ],
)
def test_mistakes_are_named(tracer, call, words):
    with pytest.raises(ScxError, match=words):
        call(tracer)


def test_transcoders_of_another_model_are_refused(tracer):
    layers = tuple(
        Transcoder(c.W_enc_Fd[:, :8], c.b_enc_F, c.W_dec_Fd[:, :8], c.b_dec_d[:8])
        for c in tracer.transcoders.layers
    )
    with pytest.raises(ScxError, match="width 8"):
        make_tracer(tracer.lm, TranscoderSet(layers), tracer.table)


def test_what_tokens_add_to_a_feature_over_all_paths(tracer):
    """With every active feature chosen, tokens, errors and biases over all paths make up the feature."""
    cell = tracer.encode([1])[0]
    graph = trace_graph(tracer.rep, cell, tracer.plan("Dendritic"), 100_000)
    n = len(graph.chosen.layer_C)
    value_C = graph.table.value_R[:n].double().numpy()
    passed_CC = graph.weight_RS[:n, :n] / value_C
    others_C = (graph.table.error_RLT[:n].sum((1, 2)) + graph.table.bias_R[:n]).double().numpy()
    others_C = np.linalg.solve(np.eye(n) - passed_CC, others_C)
    assert token_paths(graph, np.arange(n)).sum(1) + others_C == pytest.approx(value_C, rel=1e-3, abs=1e-4)
