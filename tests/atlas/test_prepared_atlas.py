"""Folders of atlases and files of gene sets that somebody prepared: each is refused in one line that names
the file, or read as plain text."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scx_core.atlas import Atlas, FindConfig, open_gene_sets
from scx_core.atlas.atlas_folder import shipped_root
from scx_core.atlas.gene_sets import gmt
from scx_core.atlas.rating.ratings import FOLDER, rating_table
from scx_core.atlas.tables.find import find_part
from scx_core.errors import ScxError
from scx_core.share import gather_folder
from tests.builders.hostile import NAMES
from tests.builders.hostile_results import make_hostile

HUGE = 10**400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped_root() / "embedded-atlas", tmp_path / "atlas"))


def meta(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "atlas.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def table(name: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        path = folder / f"{name}.parquet"
        pq.write_table(change(pq.read_table(path)), path)

    return changed


def column(name: str, of: str, values: Callable[[pa.Table], pa.Array]) -> Callable[[Path], None]:
    return table(name, lambda held: held.set_column(held.column_names.index(of), of, values(held)))


def link_out(folder: Path) -> None:
    shutil.move(folder / "types.parquet", folder.parent / "types.parquet")
    (folder / "types.parquet").symlink_to(folder.parent / "types.parquet")


PREPARED = {
    "beside is elsewhere": (meta(beside=["../other"]), r"atlas.json names '\.\./other'"),
    "beside is itself": (meta(beside=["."]), "atlas.json names '.'"),
    "beside is from the root": (meta(beside=["/etc"]), "atlas.json names '/etc'"),
    "beside is a number": (meta(beside=[3]), r"atlas.json: beside\[0\]"),
    "many layers": (meta(n_layers=HUGE), "atlas.json: n_layers"),
    "of_units is a text": (meta(of_units="many"), "atlas.json: of_units"),
    "no layers": (meta(n_layers=0), "features.parquet has not one row"),
    "more units": (meta(n_units=4096), "features.parquet has not one row"),
    "types are numbers": (meta(types=[1, 2]), r"atlas.json: types\[0\]"),
    "source is a text": (meta(source="x"), "atlas.json: source"),
    "a threshold is a text": (meta(thresholds={"gene": "<b>"}), "atlas.json: thresholds.gene"),
    "an unknown threshold": (meta(thresholds={"<b>": 1}), "atlas.json: there is no threshold '<b>'"),
    "sets are a list": (meta(gene_sets=[]), "atlas.json: gene_sets"),
    "an unknown verdict": (
        column("features", "verdict", lambda held: pa.array(["<b>"] * len(held))),
        "features.parquet has the verdict '<b>'",
    ),
    "features in another order": (
        table("features", lambda held: held.take(pa.array(np.arange(len(held))[::-1]))),
        "features.parquet has not one row",
    ),
    "a label is a number": (
        column("features", "label", lambda held: pa.array(range(len(held)))),
        "features.parquet lacks the column 'label'",
    ),
    "a column is missing": (
        table("examples", lambda held: held.drop_columns(["tokens"])),
        "examples.parquet lacks the column 'tokens'",
    ),
    "no Parquet": (
        lambda folder: (folder / "sets.parquet").write_bytes(b"PAR1" + b"\0" * 99 + b"PAR1"),
        "sets.parquet could not be read",
    ),
    "a link": (link_out, "types.parquet is a link that leads out of its folder"),
}


@pytest.mark.parametrize(("change", "named"), PREPARED.values(), ids=PREPARED)
def test_a_prepared_atlas_is_refused_by_name(
    change: Callable[[Path], None], named: str, folder: Path
) -> None:
    (folder.parent / "other").mkdir()
    change(folder)
    with pytest.raises(ScxError, match=named) as refused:
        Atlas.open(folder)
    assert refused.value.remedy and len(str(refused.value)) < 800


def test_what_people_said_is_read_with_care(folder: Path) -> None:
    atlas = Atlas.open(folder)
    good = {"layer": 0, "feature": 1, "label": "x", "author": "y", "time": "z"}
    for odd in ({"layer": "0"}, {"label": 3}, {"feature": HUGE}, {"time": None}):
        (folder / "labels.jsonl").write_text(json.dumps(good | odd) + "\n")
        with pytest.raises(ScxError, match=f"labels.jsonl: {next(iter(odd))}"):
            atlas.given()
    (folder / "labels.jsonl").write_text("[" * 50_000 + "\n")
    with pytest.raises(ScxError, match="labels.jsonl"):
        atlas.given()
    (folder / FOLDER).mkdir()
    said = {"source": "main", "layer": 99, "feature": 0, "interpretable": True, "category": "gene"}
    said |= {"description": "", "rater": "<b>", "time": ""}
    (folder / FOLDER / "a.jsonl").write_text(json.dumps(said) + "\n")
    with pytest.raises(ScxError, match="L99·0"):
        rating_table(atlas)


def test_an_atlas_that_is_called_anything_is_searched(folder: Path) -> None:
    atlas = make_hostile(folder)
    for name in NAMES:
        find_part(atlas, FindConfig(text=name[:200]), 0, 5)
        if name.strip().upper() in atlas.genes:
            atlas.gene(name.strip())
    assert set(atlas.labels().values()) & set(NAMES)


ODD_SETS = {
    "a.gmt": [
        b"<script>alert(1)</script>\t=cmd|' /C calc'!A0\tCD79A\tMS4A1\n",
        "\n".join(f"{' '.join(name.split()) or 'x'} {k}\t{k}\tCD79A\tMS4A1" for k, name in enumerate(NAMES))
        .replace("\x00", "")
        .encode("utf-8"),
    ],
    "refused.gmt": [
        b"\xff\xfe\x00",
        b"\0" * 100,
        b"set\tnote",
        b"\tnote\tCD79A",
        b"x" * 200_000,
        gzip.compress(b"\0" * (1 << 24)),
    ],
    "refused.csv": [
        b"cell type,gene\n" + b"x" * 200_000 + b",B\n",
        b'cell type,gene\n"B,CD79A\n',
        b"cell type,gene\nB\n",
        b"[" * 100_000,
        gzip.compress(b"\0" * (1 << 24)),
    ],
}


def test_gene_sets_of_anybody_end_in_sets_or_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gmt, "LARGEST_FILE", 1 << 20)
    for name, contents in ODD_SETS.items():
        for content in contents:
            (tmp_path / name).write_bytes(content)
            if not name.startswith("refused"):
                assert len(open_gene_sets(tmp_path / name))
                continue
            with pytest.raises(ScxError, match=name) as refused:
                open_gene_sets(tmp_path / name)
            assert len(str(refused.value)) < 700


def test_a_folder_of_results_of_anybody(folder: Path, tmp_path: Path) -> None:
    """What is no result is passed over; what claims to be one is read in full, or refused by name."""
    results = tmp_path / "results"
    results.mkdir()
    shutil.move(folder, results / "atlas")
    (results / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "secret.json").write_text('{"scope": 1, "nodes": [], "edges": [], "schema_version": 1}')
    (results / "out.json").symlink_to(tmp_path / "secret.json")
    (results / "deep.json").write_text("[" * 100_000)
    (results / "huge.json").write_text("9" * 5000)
    assert gather_folder(results).atlas is not None
    claims = {"ce_recovered": 1, "confusion": {}, "per_layer": []}
    (results / "claims.json").write_text(json.dumps(claims))
    with pytest.raises(ScxError, match=r"claims\.json"):
        gather_folder(results)
