"""The token of beginning is no text: a node of its own kind, where the tokenizer adds it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scx_core.cells import open_cells
from scx_core.circuits import ConsensusConfig, TraceConfig, make_tracer
from scx_core.circuits.feature_names import BOS
from scx_core.figures import View, simplify
from scx_core.language import load_language
from tests.language.checkpoints import gemma_folder, pythia_folder
from tests.tiny import tiny_tokenizer
from tests.validation.sets import random_set

PROMPT = "{organism} cell: {cell_sentence}. Cell type:"
ALL = TraceConfig(node_share=1.0, edge_share=1.0, target="answer")


def tracer_of(folder):
    lm = load_language(folder, dtype="float64", prompt=PROMPT, n_genes=12)
    cells = open_cells("embedded")
    return make_tracer(lm, random_set(lm), replace(cells, given_answers=None))


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    cells = open_cells("embedded")
    texts = [" ".join(cells.symbols[start : start + 50]) for start in range(0, 700, 50)]
    words = "The cell type is: natural killer cell, B cell, classical monocyte. Homo sapiens Genes"
    return tracer_of(gemma_folder(tmp_path_factory.mktemp("gemma"), [*texts, *[words] * 60]))


def test_position_0_of_a_cell_is_the_start_of_text(gemma):
    circuit = gemma.cell(0, cfg=ALL)
    first = circuit.node("t:0")
    assert circuit.token_ids[0] == gemma.lm.bos_id and circuit.tokens[0] == "<bos>"
    assert (first.name, first.name_kind, first.gene) == ("start of text <bos>", BOS, None)
    assert [node.id for node in circuit.nodes if node.name_kind == BOS] == ["t:0"]
    assert circuit.accounting["max_relative_error"] < 1e-6
    drawing = simplify(circuit, View())
    box = next(one for one in drawing.nodes if one.kind == "bos")
    assert box.label == "start of text" and "no text" in box.hover[0] and "<bos>" in box.hover[0]


def test_it_is_no_part_of_the_prompt_in_a_consensus(gemma):
    label = gemma.table.types[1]
    found = gemma.consensus(label, trace=ALL, cfg=ConsensusConfig(cells=3, min_share=0.0))
    alone = [gemma.cell(row, label=found.target.answer, cfg=ALL) for row in found.provenance["cells"]]
    bos, words = found.node("bos"), found.node("prompt")
    assert bos.name == "start of text <bos>" and bos.name_kind == BOS
    assert bos.effect == pytest.approx(sum(one.node("t:0").effect for one in alone) / len(alone), rel=1e-5)
    others = sum(
        node.effect
        for one in alone
        for node in one.nodes
        if node.kind == "embedding" and node.gene is None and node.name_kind != BOS
    )
    assert words.effect == pytest.approx(others / len(alone), rel=1e-5)
    assert any(edge.source == "bos" for edge in found.edges)


def test_pythias_first_token_stays_text(tmp_path):
    tracer = tracer_of(pythia_folder(tmp_path, "C2S-Scale-Pythia-1b-pt", tiny_tokenizer()))
    circuit = tracer.cell(0, cfg=ALL)
    assert tracer.lm.bos_id is None and circuit.tokens[0].startswith("H")
    assert not [node for node in circuit.nodes if node.name_kind == BOS]
    assert circuit.node("t:0").name is None
