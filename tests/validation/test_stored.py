"""A table read back from its file, and the rows that are measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scx_core.cells import split_cells
from scx_core.errors import ScxError
from scx_core.runs import write_json
from scx_core.statistics.intervals import Interval
from scx_core.validation import cautions, verdict
from scx_core.validation.held_out import draw_rows, held_out_rows, validation_rows
from scx_core.validation.result import FILE, from_json, validation_beside
from tests.tiny import LABELS, tiny_language, tiny_table
from tests.validation.sets import random_set
from tests.validation.test_warnings import GOOD

MARKS = {"data": "d", "model": "m", "transcoders": "t"}
FOUND = GOOD._replace(
    kl=math.nan,
    ce_recovered=0.5,
    provenance={key: {"name": key, "fingerprint": mark} for key, mark in MARKS.items()},
)


def test_a_table_survives_its_file() -> None:
    found = FOUND._replace(warnings=cautions(FOUND))
    again = from_json(json.loads(json.dumps(found.to_json())))
    assert math.isnan(again.kl)
    assert again._replace(kl=0.0) == found._replace(kl=0.0)
    assert verdict(again) == verdict(found)


def test_baselines_and_intervals_survive_and_an_older_table_has_none() -> None:
    found = FOUND._replace(
        intervals={"kl": Interval(0.1, math.nan)}, kl=0.1, split="as it is said", drawn_over="70 cells"
    )
    again = from_json(json.loads(json.dumps(found.to_json())))
    assert again.added == found.added and again.baselines == found.baselines and again.format == 2
    assert again.intervals["kl"].low == 0.1 and math.isnan(again.intervals["kl"].high)
    assert (again.split, again.drawn_over) == ("as it is said", "70 cells")
    new = {"added", "baselines", "logistic", "intervals", "drawn_over", "split", "format"}
    old = {key: value for key, value in found.to_json().items() if key not in new}
    first = from_json(json.loads(json.dumps(old)))
    assert (first.format, first.added, first.baselines) == (1, None, ())


def test_keys_that_a_later_version_adds_are_left_out() -> None:
    assert from_json(FOUND.to_json() | {"verdict": "fine", "paper": {}}).n_cells == FOUND.n_cells


def test_only_the_table_of_these_very_things_is_taken(tmp_path: Path) -> None:
    assert validation_beside(None, MARKS) is None
    assert validation_beside(tmp_path, MARKS) is None
    write_json(tmp_path / FILE, FOUND.to_json())
    assert validation_beside(tmp_path, MARKS) is not None
    assert validation_beside(tmp_path, MARKS | {"data": "other"}) is None


@pytest.mark.parametrize("content", ["{}", "[]", '{"confusion": 3}'])
def test_a_damaged_table_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ScxError, match="validation.json.*(no validation table|expected an object)"):
        validation_beside(tmp_path, MARKS)


def test_held_out_rows_are_new_to_model_and_set(tmp_path: Path) -> None:
    table = tiny_table(20)
    split = {
        "by": "random",
        "seed": 3,
        "held_out_share": 0.2,
        "train": list(range(16)),
        "held_out": [16, 17, 18, 19],
    }
    settings = {"provenance": {"data": {"fingerprint": table.fingerprint}}, "split": split}
    lm = tiny_language(tmp_path, settings=settings)
    coders = replace(random_set(lm), meta={"train": {"seed": 1, "a setting of another version": 2}})
    assert held_out_rows(lm, coders, table).tolist() == [16, 17, 18, 19]
    strange = replace(
        tiny_table(3), labels=np.array([LABELS[0], "", LABELS[1]], dtype=object), fingerprint="never seen"
    )
    assert held_out_rows(lm, coders, strange).tolist() == [0, 2]


def test_rows_are_drawn_with_the_seed() -> None:
    rows = np.arange(100, 200)
    some = draw_rows(rows, 10, seed=5)
    assert len(some) == 10 == len(set(some.tolist())) and (np.diff(some) > 0).all() and set(some) <= set(rows)
    assert some.tolist() == draw_rows(rows, 10, seed=5).tolist() != draw_rows(rows, 10, seed=6).tolist()
    assert draw_rows(rows, 1000).tolist() == rows.tolist()


def test_baselines_are_fitted_on_cells_that_do_not_test(tmp_path: Path) -> None:
    table = tiny_table(20)
    split = split_cells(table, 0.25, choose=0.2)
    settings = {"provenance": {"data": {"fingerprint": table.fingerprint}}, "split": split.to_json()}
    lm = tiny_language(tmp_path, settings=settings)
    rows = validation_rows(lm, random_set(lm), table)
    assert rows.test.tolist() == split.held_out.tolist() and rows.train.tolist() == split.train.tolist()
    assert "to choose on" in rows.words
    assert len(validation_rows(lm, random_set(lm), table, cells=2).test) == 2

    table.donors = np.array(["ann", "bob"] * 10, dtype=object)
    words = validation_rows(lm, random_set(lm), table).words
    assert "Donors are shared: " in words and "--split-by donor" in words
    table.donors = None

    table.fingerprint = "new to both"
    rows = validation_rows(lm, random_set(lm), table)
    assert not len(rows.train) and rows.test.tolist() == list(range(20)), "too few to keep some aside"
    more = tiny_table(60)
    more.fingerprint = "new to both"
    rows = validation_rows(lm, random_set(lm), more)
    assert len(rows.train) == 12 and sorted([*rows.train, *rows.test]) == list(range(60))
    assert "new to both" in rows.words


def test_a_set_of_two_parts_keeps_its_cells_and_says_who_chose(tmp_path: Path) -> None:
    table = tiny_table(30)
    lm = tiny_language(tmp_path)
    marks = {"provenance": {"data": {"fingerprint": table.fingerprint}}}
    old = replace(random_set(lm), meta={"train": {"seed": 1}} | marks)
    new = replace(random_set(lm), meta={"train": {"seed": 1, "choose": 0.2}, "split": {"choose": 6}} | marks)
    two, three = (validation_rows(lm, coders, table) for coders in (old, new))
    assert two.test.tolist() == three.test.tolist()
    assert set(three.train) < set(two.train) and sorted([*two.train, *two.test]) == list(range(30))
    assert "the test cells" in two.words and "to choose on" in three.words
