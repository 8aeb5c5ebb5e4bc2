"""One gene switched off: the same as the measured knock-outs, and probabilities of all answers."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.circuits import ConsensusConfig
from scx_core.errors import ScxError
from scx_core.evidence import knock_out_all
from scx_core.evidence.knockouts.switch_off import switch_off, switch_off_in
from tests.builders.evidence import LABEL, tiny_tracer


def test_it_is_the_mean_of_the_measured_knock_outs_and_its_answers_add_up_to_1():
    tracer = tiny_tracer()
    circuit = tracer.consensus(LABEL, cfg=ConsensusConfig(cells=4))
    gene = max(circuit.genes, key=lambda row: row.effect).gene
    found = switch_off(tracer, circuit, gene)
    rows = circuit.provenance["cells"]
    plan = tracer.plan(LABEL, list(circuit.target.against), circuit.target.kind)
    plain = knock_out_all(tracer, rows, plan, genes=[gene], ways=["text"])
    assert found.n == len(plain) <= found.n_cells == 4
    assert found.lost.mean == pytest.approx(np.mean([cell.genes[0].text for cell in plain]), abs=1e-5)
    for mean in (found.before, found.after):
        assert sum(mean.values()) == pytest.approx(1.0)
        assert set(mean) == set(tracer.labels)
    own = next(row for row in circuit.genes if row.gene == gene)
    assert found.predicted == pytest.approx(own.effect / own.share)
    given = sum(name == LABEL for name in tracer.predict([cell.row for cell in plain]))
    assert found.given_before == given
    assert LABEL in found.words() and "→" in found.words()
    assert found.other is not None and found.other.mean != found.lost.mean
    assert found.to_json()["lost"]["n"] == found.n


def test_a_gene_that_no_sentence_holds_is_refused():
    tracer = tiny_tracer()
    with pytest.raises(ScxError, match="holds nonsense"):
        switch_off_in(tracer, [0, 1], tracer.plan(LABEL), "nonsense")
