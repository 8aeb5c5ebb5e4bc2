"""Results in an AnnData object: what goes in comes back from an .h5ad, each kind as itself."""

from __future__ import annotations

import json
from contextlib import suppress

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy

import scx_core as scx
from scx_core.circuits.difference import Difference
from scx_core.errors import ScxError
from scx_core.runs import read_json
from scx_core.runs.files import to_json_text
from scx_core.transcoders import EMBEDDED_SETS
from scx_core.validation import Validation
from scx_core.validation.result import from_json
from tests.builders.damage import check_every_damage, damaged
from tests.builders.evidence import feature_answers, tiny_evidence
from tests.builders.hostile import HOSTILE_LABEL
from tests.figures.fakes import cell_circuit, consensus_circuit


class Record:
    """Evidence that has no reader."""

    def to_json(self):
        return feature_answers()[0]


def results() -> dict[str, object]:
    """One of each kind, under names that files do not like."""
    sides = consensus_circuit(1), consensus_circuit(2)
    index = pd.Index(["CD74", "A/B"], name="gene")
    gap = consensus_circuit()._replace(scope="difference")
    return {
        "one cell": cell_circuit(),
        "CD4+/CD25 T Reg": consensus_circuit(),
        HOSTILE_LABEL: consensus_circuit(3),
        "B less NK": Difference(("B", "NK"), *sides, gap),
        "validation": from_json(read_json(EMBEDDED_SETS["embedded"] / "validation.json")),
        "evidence": tiny_evidence().types[0],
        "knock-outs": pd.DataFrame({"gap": [0.1, 1 / 3], "n_cells": [3, 4]}, index=index),
    }


def test_every_kind_comes_back_from_a_file_as_it_went_in(tmp_path):
    adata = ad.AnnData(np.ones((2, 2), np.float32))
    adata.uns["scx"] = {"names": np.array(["L0·1"])}  # as `annotate` leaves it
    made = results()
    for name, result in made.items():
        scx.tl.store(adata, result, name)
    scx.tl.store(adata, Record(), "steered")
    adata.write_h5ad(tmp_path / "kept.h5ad")
    read = ad.read_h5ad(tmp_path / "kept.h5ad")
    kinds = {name: type(one).__name__ for name, one in made.items()}
    assert scx.tl.stored(read) == kinds | {"steered": "Record"}
    assert list(read.uns["scx"]["names"]) == ["L0·1"]
    for name, result in made.items():
        back = scx.tl.stored(read, name)
        if isinstance(result, pd.DataFrame):
            pd.testing.assert_frame_equal(back, result)
        else:
            assert type(back) is type(result)
            assert to_json_text(back.to_json()) == to_json_text(result.to_json())
    assert scx.tl.stored(read, "steered") == json.loads(to_json_text(feature_answers()[0]))


def test_what_is_no_result_or_not_there_is_one_line():
    adata = ad.AnnData(np.ones((1, 1), np.float32))
    with pytest.raises(ScxError, match="no result that can be kept"):
        scx.tl.store(adata, 3, "three")
    with pytest.raises(ScxError, match="holds no result 'three'"):
        scx.tl.stored(adata, "three")
    adata.uns["scx"] = {"results": {"a": "{"}}
    with pytest.raises(ScxError, match="no result of scX"):
        scx.tl.stored(adata)


def test_features_beside_results_come_back_too(tmp_path):
    adata = scanpy.datasets.pbmc68k_reduced()[:3].copy()
    scx.tl.store(adata, cell_circuit(), "a cell")
    made = scx.tl.annotate(adata, obs=[(2, 5)])
    made.write_h5ad(tmp_path / "kept.h5ad")
    read = ad.read_h5ad(tmp_path / "kept.h5ad")
    assert scx.tl.stored(read, "a cell") == cell_circuit()
    for where, key in (("obsm", "scx_features"), ("obsm", "scx_features_max"), ("varm", "scx_feature_mass")):
        before, after = getattr(made, where)[key], getattr(read, where)[key]
        assert before.shape == after.shape and abs(before - after).max() == 0
    assert (read.obs["scx L2·5"] == made.obs["scx L2·5"]).all()
    assert list(read.uns["scx"]["names"]) == list(made.uns["scx"]["names"])
    adata.uns["scx"] = "another tool's"
    with pytest.raises(ScxError, match=r'uns\["scx"\] is no object with results of scX'):
        scx.tl.annotate(adata, obs=[(2, 5)])


@pytest.mark.parametrize("held", ["text", 3, ["a"], {"results": "text"}, {"results": [1]}, {"results": 3.5}])
def test_something_else_in_the_place_of_results_is_one_line(held):
    adata = ad.AnnData(np.ones((1, 1), np.float32))
    adata.uns["scx"] = held
    for ask in (
        lambda: scx.tl.stored(adata),
        lambda: scx.tl.stored(adata, "a"),
        lambda: scx.tl.store(adata, pd.DataFrame({"a": [1]}), "a"),
    ):
        with pytest.raises(ScxError, match=r'uns\["scx"\].* is no object with results of scX'):
            ask()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "[" * 100_000, "null", 3, '{"name": ["a"], "kind": "Circuit", "record": 1}', '{"name": "a"}',
     '{"name": "b", "kind": "Circuit", "record": {}}', b"{}", '{"name": "a", "kind": 3, "record": {}}'],
)  # fmt: skip
def test_a_damaged_entry_is_named_and_hides_no_other(text):
    adata = ad.AnnData(np.ones((1, 1), np.float32))
    for name in ("a", "other"):
        scx.tl.store(adata, pd.DataFrame({"a": [1]}), name)
    key = next(key for key in adata.uns["scx"]["results"] if key.startswith("a-"))
    adata.uns["scx"]["results"][key] = text
    for ask in (lambda: scx.tl.stored(adata), lambda: scx.tl.stored(adata, "a")):
        with pytest.raises(ScxError, match=f"no result of scX .{key}"):
            ask()
    assert scx.tl.stored(adata, "other")["a"].tolist() == [1]


def tables() -> dict[str, pd.DataFrame]:
    """One of every type of column."""
    when = pd.to_datetime(["2024-01-01", "2024-02-03"])
    columns = {"n": [1, 2], "x": [0.5, np.nan], "b": [True, False], "t": ["a", "b"], "when": when}
    plain = pd.DataFrame(columns, index=pd.Index(["u", "v"], name="gene"))
    return {
        "plain": plain,
        "types": plain.assign(c=pd.Categorical(["a", "b"]), i=pd.array([1, None], "Int64")),
        "empty": plain.iloc[:0],
    }


@pytest.mark.parametrize("which", ["plain", "types", "empty"])
def test_a_damaged_table_is_read_as_it_was_or_refused(which):
    """As it lies in the object, everything once at every place; what pandas says of itself may be any."""
    adata = ad.AnnData(np.ones((1, 1), np.float32))
    scx.tl.store(adata, tables()[which], "it")
    (key,) = adata.uns["scx"]["results"]
    whole = json.loads(adata.uns["scx"]["results"][key])
    record = whole["record"]

    def read(data, schema=record["schema"]):
        spoiled = {"schema": schema, "data": data}
        adata.uns["scx"]["results"][key] = json.dumps(whole | {"record": spoiled})
        return scx.tl.stored(adata, "it")

    def again(found):
        other = ad.AnnData(np.ones((1, 1), np.float32))
        scx.tl.store(other, found, "it")
        return json.loads(other.uns["scx"]["results"][key])["record"]["data"]

    assert check_every_damage(json.loads(json.dumps(record["data"])), read, again, ScxError) > 5
    for _, schema in damaged(json.loads(json.dumps(record["schema"]))):
        with suppress(ScxError):
            assert isinstance(read(record["data"], schema), pd.DataFrame)


def test_a_damaged_validation_is_read_as_it_was_or_refused():
    record = from_json(read_json(EMBEDDED_SETS["embedded"] / "validation.json")).to_json()
    del record["provenance"]  # any JSON
    few = {name: rows[:1] for name, rows in record.items() if name in ("per_layer", "warnings", "baselines")}
    record = json.loads(to_json_text(record | few | {"provenance": {}}))
    assert check_every_damage(record, from_json, Validation.to_json, ScxError, defaults=True) > 300


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({"names": "AB"}, "'B less NK' is no difference: names is not a list"),
        ({"names": ["A"]}, "names has 1 values and not 2"),
        ({"first": {}}, "'B less NK', first .*states no schema_version"),
        ({"difference": consensus_circuit().to_json()}, "difference is a circuit of scope consensus"),
    ],
)
def test_a_damaged_difference_is_named_by_its_place(spoil, words):
    adata = ad.AnnData(np.ones((1, 1), np.float32))
    scx.tl.store(adata, results()["B less NK"], "B less NK")
    (key,) = adata.uns["scx"]["results"]
    whole = json.loads(adata.uns["scx"]["results"][key])
    adata.uns["scx"]["results"][key] = to_json_text(whole | {"record": whole["record"] | spoil})
    with pytest.raises(ScxError, match=words):
        scx.tl.stored(adata, "B less NK")
