"""A saved circuit comes back whole, and a file that is none is refused in words that name the place."""

from __future__ import annotations

import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scx_core.circuits import SCHEMA_VERSION, Circuit, TraceConfig, origins, parse_circuit, read_circuit
from scx_core.circuits.circuit import circuit_schema
from scx_core.circuits.schema import LONGEST_TEXT
from scx_core.errors import ScxError
from scx_core.runs.files import to_json_text
from tests.figures.fakes import PROVENANCE, cell_circuit, consensus_circuit, hostile_circuit


def record() -> dict:
    """A small circuit as JSON, free to be spoiled."""
    return json.loads(to_json_text(cell_circuit(n_genes=12, n_features=6).to_json()))


@pytest.mark.parametrize("make", [cell_circuit, consensus_circuit, hostile_circuit])
def test_a_circuit_comes_back_from_its_file(make, tmp_path):
    path = tmp_path / "circuit.json"
    path.write_text(to_json_text(make().to_json()), encoding="utf-8")
    assert read_circuit(path) == make()
    assert to_json_text(read_circuit(path).to_json()) == path.read_text("utf-8")


@pytest.mark.parametrize("make", [cell_circuit, consensus_circuit, hostile_circuit])
def test_what_is_written_fits_the_published_schema(make):
    check = jsonschema.Draft202012Validator(circuit_schema())
    record = json.loads(to_json_text(make().to_json()))
    assert not list(check.iter_errors(record))
    for spoil in (_without("edges"), _set("nodes", 0, "kind", value="soul"), _set("colour", value=1)):
        assert list(check.iter_errors(spoil(json.loads(json.dumps(record)))))


def _set(*path, value):
    """A way to spoil a record: put `value` at `path`."""

    def spoil(data):
        place = data
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return data

    return spoil


def _twice(key):
    return lambda data: data | {key: [*data[key], data[key][0]]}


def _without(key):
    return lambda data: {k: v for k, v in data.items() if k != key}


def _nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_set("edges", 3, "source", value="ghost"), r"edges\[3\] names the node 'ghost'"),
        (_set("edges", 0, "weight", value=math.nan), r"edges\[0\].weight is not a finite number"),
        (_set("edges", 0, "weight", value=math.inf), r"edges\[0\].weight is not a finite number"),
        (_set("edges", 0, "weight", value=1e200), r"edges\[0\].weight is not a finite number"),
        (_set("edges", 0, "weight", value=None), r"edges\[0\].weight is not a number"),
        (_set("edges", 0, "weight", value="1"), r"edges\[0\].weight is not a number"),
        (_set("edges", 0, "weight", value=True), r"edges\[0\].weight is not a number"),
        (_set("edges", 0, value=7), r"edges\[0\] is not an object"),
        (_twice("edges"), "joins the same nodes as another"),
        (_twice("nodes"), "has the id"),
        (_set("nodes", 1, "position", value=1.5), r"nodes\[1\].position is not a whole number"),
        (_set("nodes", 1, "layer", value=2**60), r"nodes\[1\].layer is not a whole number"),
        (_set("nodes", 1, "position", value=-1), r"nodes\[1\].position is none that a model has"),
        (_set("nodes", 1, "position", value=2**40), r"nodes\[1\].position is none that a model has"),
        (_set("nodes", 1, "kind", value="wizard"), r"nodes\[1\].kind is not one of embedding, feature"),
        (_set("nodes", 1, "kind", value=["feature"]), r"nodes\[1\].kind is not one of"),
        (_set("nodes", 1, "colour", value="red"), r"nodes\[1\] has an unknown key 'colour'"),
        (_set("nodes", 1, "gene", value="A" * (LONGEST_TEXT + 1)), r"nodes\[1\].gene has 10,001 characters"),
        (_set("nodes", 1, "gene", value="\ud800"), r"nodes\[1\].gene holds half a character"),
        (_set("nodes", 1, "share", value=1.2), r"nodes\[1\].share is not between 0 and 1"),
        (_set("nodes", value={"a": 1}), "nodes is not a list"),
        (_set("genes", 2, "rank", value=-math.inf), r"genes\[2\].rank is not a finite number"),
        (_set("target", "coefficients", value={"x": 1.0}), "has the key 'x', which is no token's number"),
        (_set("target", "coefficients", value={"3": "x"}), "target.coefficients.3 is not a number"),
        (_set("target", "against", value="B cell"), "target.against is not a list"),
        (_set("scores", "value", value=math.nan), "scores.value is not a finite number"),
        (_set("provenance", "deep", value=_nested(30)), "nested more than 20 levels"),
        (_set("provenance", "data", value="x" * (LONGEST_TEXT + 1)), "provenance.data has 10,001|has 10,001"),
        (_set("scope", value="galaxy"), "scope is not one of cell, consensus"),
        (_set("token_ids", value=["1"]), r"token_ids\[0\] is not a whole number"),
        (_without("edges"), "lacks edges"),
        (_without("schema_version"), "states no schema_version"),
        (_set("schema_version", value="1"), "states no schema_version"),
        (_set("schema_version", value=SCHEMA_VERSION + 1), f"scX reads up to {SCHEMA_VERSION}"),
        (lambda data: [data], "states no schema_version"),
        (lambda data: {"metadata": {}, "nodes": [], "links": []}, "states no schema_version"),
    ],
)
def test_what_is_wrong_is_named(spoil, words):
    spoiled = spoil(record())
    with pytest.raises(ScxError, match=words) as found:
        parse_circuit(json.dumps(spoiled).encode(), "mine.json")
    assert "mine.json" in found.value.problem and found.value.remedy


@pytest.mark.parametrize(
    "content",
    [b"", b"no json", b"\xff\xfe\x00", b"[" * 100_000, b"1" * 5000, b'{"schema_version": 1' + b" " * 9],
)
def test_what_is_no_json_is_a_users_error(content):
    with pytest.raises(ScxError, match=r"mine\.json (is not valid JSON|holds no circuit)"):
        parse_circuit(content, "mine.json")


def test_a_file_that_is_too_long_or_absent_is_a_users_error(tmp_path):
    with pytest.raises(ScxError, match="has 3 MB; at most 2 MB"):
        parse_circuit(b" " * 3_000_000, "long.json", most_bytes=2_000_000)
    with pytest.raises(ScxError, match="none.json could not be read"):
        read_circuit(tmp_path / "none.json")
    with pytest.raises(ScxError, match="could not be read"):
        read_circuit(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("target", "genes", "nodes", "edges", "scores", "accounting", "provenance", "n_cells", "tokens")


@given(st.sampled_from(KEYS), JSON, st.booleans())
def test_any_json_is_read_or_refused_with_a_users_error(key, value, inside):
    """Whatever stands at a key, or in its first entry: a Circuit or a ScxError, nothing else."""
    data = record()
    if inside and isinstance(data[key], list) and data[key]:
        data[key][0] = value
    else:
        data[key] = value
    try:
        read = Circuit.from_json(data)
    except ScxError as error:
        read = error
    assert isinstance(read, (Circuit, ScxError))
    assert getattr(read, "remedy", "said")


def test_origins_compare_fingerprints():
    in_use = {"data": PROVENANCE["data"]["fingerprint"], "model": "another", "transcoders": ""}
    data, model, transcoders = origins(PROVENANCE, in_use)
    assert (data.part, data.same, model.same, transcoders.same) == ("data", True, False, None)
    assert model.name == PROVENANCE["model"]["name"]
    plain = origins({"data": "cells.h5ad", "model": 7}, in_use)
    assert [origin.same for origin in plain] == [None, None, None]
    assert plain[0].name == "cells.h5ad"


def test_a_traced_circuit_with_every_kind_of_target_comes_back(tmp_path):
    from scx_core.circuits import make_tracer
    from tests.tiny import random_set, renamed_table, tiny_language

    lm = tiny_language(tmp_path, dtype="float32")
    tracer = make_tracer(lm, random_set(lm, "relu", skip=False), renamed_table())
    for cfg in (TraceConfig(target="logprob"), TraceConfig(target="token", token="FOX")):
        circuit = tracer.cell(3, label="Dendritic", cfg=cfg)
        text = to_json_text(circuit.to_json())
        assert parse_circuit(text.encode(), "x.json") == circuit
        in_use = {"data": tracer.table.fingerprint, "model": lm.fingerprint}
        assert [origin.same for origin in origins(circuit.provenance, in_use)] == [True, True, None]


def test_a_number_without_a_float_is_refused_by_place():
    """A whole number of 400 digits: asking whether it is finite raises an OverflowError."""
    data = consensus_circuit(3).to_json()
    data["edges"][0]["weight"] = 10**400
    with pytest.raises(ScxError, match=r"edges\[0\].weight is not a finite number"):
        Circuit.from_json(json.loads(json.dumps(data)))
