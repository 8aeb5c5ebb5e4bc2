"""How many of a circuit's cells the transcoders were trained on as well: in its record, and in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scx_core.circuits import ConsensusConfig, TraceConfig
from scx_core.circuits.difference import compare_types
from scx_core.circuits.words.whose import TRAINING_CELLS, training_note, training_words
from scx_core.circuits.words.wording import circuit_sentences
from scx_core.runs import to_dict
from scx_core.training.config import TrainConfig
from scx_core.training.train import training_split
from tests.tiny import LABELS

TRACE, FEW = TraceConfig(nodes=20), ConsensusConfig(cells=6, nodes=20)
TRAIN = TrainConfig(held_out=0.3, split_by="stratified", seed=3)


@pytest.fixture
def trained(tracer):
    """The tracer with a set that says it was trained on these cells, and the rows that did train it."""
    split = training_split(tracer.lm, tracer.table, TRAIN)
    parts = {name: len(getattr(split, name)) for name in ("train", "choose", "held_out")}
    meta = {"train": to_dict(TRAIN), "split": parts}
    meta["provenance"] = {"data": {"fingerprint": tracer.table.fingerprint}}
    return replace(tracer, transcoders=replace(tracer.transcoders, meta=meta)), split.train


def test_a_consensus_and_a_difference_count_the_training_cells(trained):
    tracer, rows = trained
    found = tracer.consensus(LABELS[0], trace=TRACE, cfg=FEW)
    k = int(np.isin(found.provenance["cells"], rows).sum())
    assert 0 < k < 6 and found.provenance[TRAINING_CELLS] == {"k": k, "n": 6}
    words = f"{k} of the 6 cells were also used to train the transcoders."
    assert training_note(found) == words and words in circuit_sentences(found)
    between = compare_types(tracer, LABELS[0], LABELS[4], trace=TRACE, cfg=FEW).difference
    both = np.concatenate([tracer.draw(name, FEW) for name in (LABELS[0], LABELS[4])])
    assert between.provenance[TRAINING_CELLS] == {"k": int(np.isin(both, rows).sum()), "n": 12}


def test_of_one_cell_it_says_whether_it_is_one_of_them(trained):
    tracer, rows = trained
    new = int(np.setdiff1d(np.arange(tracer.table.n_cells), rows)[0])
    seen, unseen = (tracer.cell(int(row), label=LABELS[0], cfg=TRACE) for row in (rows[0], new))
    assert training_note(seen) == "The cell was also used to train the transcoders."
    assert unseen.provenance[TRAINING_CELLS] == {"k": 0, "n": 1} and training_note(unseen) == ""


def test_a_set_of_other_cells_has_none_and_one_that_does_not_say_says_nothing(trained, tracer):
    other = {"provenance": {"data": {"fingerprint": "other cells"}}}
    elsewhere = replace(tracer, transcoders=replace(tracer.transcoders, meta=other))
    assert elsewhere.training_cells([0, 1]) == {TRAINING_CELLS: {"k": 0, "n": 2}}
    assert replace(tracer).training_cells([0, 1]) == {}
    lost = trained[0].transcoders.meta | {"train": to_dict(replace(TRAIN, split_by="donor"))}
    nobody = replace(tracer, transcoders=replace(tracer.transcoders, meta=lost))
    assert nobody.training_cells([0, 1]) == {}, "its donors are not known here, so neither is its split"


@pytest.mark.parametrize("stated", [None, 3, {}, {"k": 5, "n": 4}, {"k": "1", "n": 4}, {"k": 0, "n": 4}])
def test_a_file_that_does_not_say_it_says_nothing(stated):
    assert training_words({TRAINING_CELLS: stated}) == ""


def test_one_of_several():
    assert training_words({TRAINING_CELLS: {"k": 1, "n": 4}}).startswith("1 of the 4 cells was also")
