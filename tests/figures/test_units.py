"""What is drawn names the unit of what is explained: logits, nats, or a feature's pre-activation."""

import pytest

from scx_core.figures import View, circuit_page, sentence_html, simplify
from tests.figures.fakes import cell_circuit


@pytest.mark.parametrize(
    ("kind", "unit"), [("contrast", "logits"), ("logprob", "nats"), ("feature", "of pre-activation")]
)
def test_hover_texts_name_the_unit_of_the_target(kind, unit):
    circuit = cell_circuit()
    circuit = circuit._replace(target=circuit.target._replace(kind=kind))
    for text in (circuit_page(simplify(circuit, View())), sentence_html(circuit)):
        assert unit in text
        assert (unit == "logits") == ("logits" in text)
