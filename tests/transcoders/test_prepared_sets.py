"""Folders of sets and models that somebody prepared: each is refused in one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from scx_core.errors import ScxError
from scx_core.language import load_language
from scx_core.transcoders import load_set, save_set
from scx_core.transcoders.layouts import LAYOUTS, export_set
from tests.tiny import save_tiny
from tests.transcoders.layout_sets import random_set, same

HUGE = 10**400


def saved(folder: Path, kind: str = "relu") -> Path:
    save_set(folder, random_set(kind, True, 2, 6, 4, 2, 0), {"name": "made"})
    return folder


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    return change


def yaml_text(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.yaml").write_text(text)


def record(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "scx.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def tensor(name: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "layer_1.safetensors"
        tensors = load_file(path)
        save_file(tensors | {name: value(tensors[name])}, path)

    return change


def header(changes: dict[str, Any]) -> Callable[[Path], None]:
    """The header of a safetensors file says something else of its bytes."""

    def change(folder: Path) -> None:
        path = folder / "layer_0.safetensors"
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        stated = json.loads(data[8 : 8 + size])
        stated["b_enc"] |= changes
        text = json.dumps(stated).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])

    return change


def longest_header(folder: Path) -> None:
    (folder / "layer_0.safetensors").write_bytes((2**63).to_bytes(8, "little") + b"{}")


LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
PREPARED = {
    "references in YAML": (yaml_text(f"{LAUGHS}model_name: *i\n"), "config.yaml.*references"),
    "code in YAML": (yaml_text("!!python/object/apply:os.system ['true']\n"), "config.yaml.*plain values"),
    "a number of 5,000 digits": (yaml_text(f"k: {'9' * 5000}\n"), "config.yaml"),
    "no date": (yaml_text("k: 2001-99-99\n"), "config.yaml"),
    "deep YAML": (yaml_text("[" * 20_000), "config.yaml"),
    "up": (config(transcoders=["../x.safetensors", "layer_1.safetensors"]), r"\.\./x.*in the folder"),
    "a set on the hub": (config(transcoders=["hf://a/b.safetensors"] * 2), "hf://.*in the folder"),
    "NUL": (config(transcoders=["a\0.safetensors"] * 2), "safetensors"),
    "a very long name": (config(transcoders=["a" * 10_000 + ".safetensors"] * 2), "safetensors"),
    "too large for 32 bits": (
        tensor("W_dec", lambda x: torch.full_like(x, 1e300, dtype=torch.float64)),
        "layer_1.safetensors: W_dec has .* not numbers",
    ),
    "a complex tensor": (tensor("b_enc", lambda x: x.to(torch.complex64)), "layer_1.safetensors"),
    "a header of 2^63": (longest_header, "layer_0.safetensors"),
    "a shape of 2^62": (header({"shape": [2**62]}), "layer_0.safetensors"),
    "a shape of 10^400": (header({"shape": [HUGE]}), "layer_0.safetensors"),
    "an unknown type": (header({"dtype": "X9"}), "layer_0.safetensors"),
    "a type that PyTorch lacks": (header({"dtype": "F4"}), "layer_0.safetensors"),
    "a name that is a list": (record(name=["a"]), "scx.json: name is"),
    "layers": (record(n_layers=HUGE), "scx.json: n_layers is"),
    "metrics": (record(metrics="<b>"), "scx.json: metrics is"),
    "cells": (record(metrics={"cells": HUGE}), "scx.json: metrics.cells is"),
    "figures": (record(metrics={"ce_recovered": "<b>"}), "scx.json: metrics.ce_recovered is"),
    "rows": (record(metrics={"per_layer": ["<b>"]}), r"scx.json: metrics.per_layer\[0\] is"),
    "provenance": (record(provenance={"data": 3}), "scx.json: provenance.data is"),
    "a split": (record(split={"choose": {}}), "scx.json: split.choose is"),
}


@pytest.mark.parametrize(("change", "named"), PREPARED.values(), ids=PREPARED)
def test_a_prepared_set_is_refused_by_name(
    change: Callable[[Path], None], named: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "set")
    change(folder)
    with pytest.raises(ScxError, match=named) as refused:
        load_set(folder)
    assert refused.value.remedy and len(str(refused.value)) < 1000


def test_links_out_of_a_set_are_refused_and_those_of_a_cache_are_followed(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set")
    expected = load_set(folder)
    cache = tmp_path / "models--a--b"
    snapshot = cache / "snapshots" / "0123"
    (cache / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        shutil.copy(file, cache / "blobs" / file.name)
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert same(load_set(snapshot), expected)
    for name in ("config.yaml", "layer_1.safetensors", "scx.json"):
        other = tmp_path / f"other-{name}"
        shutil.move(folder / name, other)
        (folder / name).symlink_to(other)
        with pytest.raises(ScxError, match=f"{name} is a link that leads out of its folder"):
            load_set(folder)
        (folder / name).unlink()
        shutil.move(other, folder / name)
    (tmp_path / "linked").symlink_to(folder)  # the folder itself may be one: it was asked for
    assert same(load_set(tmp_path / "linked"), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_settings_of_any_layout_may_hold_huge_numbers(layout: str, tmp_path: Path) -> None:
    export_set(random_set("relu", False, 2, 6, 4, 2, 0), tmp_path / "set", layout)
    for path in [*(tmp_path / "set").rglob("*.json")]:
        text = path.read_text()
        keys = json.loads(text)
        for key, value in keys.items():
            if isinstance(value, bool) or not isinstance(value, int):
                continue
            for odd in (HUGE, -1, 0, "7", None, [], {}, True):
                path.write_text(json.dumps(keys | {key: odd}))
                try:
                    load_set(tmp_path / "set")
                except ScxError as refused:
                    assert path.name in str(refused) or "set" in str(refused)  # noqa: PT017
        path.write_text(text)


ODD_SETTINGS = {
    "labels": [["a"], 3],
    "sentences": {"prompt": 3},
    "data": "x",
    "lead": 3,
    "split": {"train": ["a"]},
    "name": {"a": 1},
}


def test_a_prepared_model_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_tiny(folder, settings={"name": "made"})
    settings = folder / "scx.json"
    for key, value in ODD_SETTINGS.items():
        settings.write_text(json.dumps({key: value}))
        with pytest.raises(ScxError, match=rf"scx.json: {key}"):
            load_language(folder, "cpu")
    settings.write_text("{}")
    other = tmp_path / "tokenizer.json"
    shutil.move(folder / "tokenizer.json", other)
    (folder / "tokenizer.json").symlink_to(other)
    with pytest.raises(ScxError, match="tokenizer.json is a link that leads out"):
        load_language(folder, "cpu")


NAMES = ("a" * 5000, "x" * 300, "a\0b", "\ud800", "~nobody/x", "../nowhere" * 40, " ")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_no_system_takes_is_no_set_no_model_and_no_file(name: str) -> None:
    """Anybody's link may hold one."""
    from scx_core.atlas import Atlas, open_gene_sets
    from scx_core.cells import CellChoices, open_cells
    from scx_core.share import gather_folder

    def labelled(given: str) -> object:
        return open_cells("embedded", CellChoices(labels_file=given))

    for opened in (load_set, load_language, open_cells, Atlas.open, open_gene_sets, gather_folder, labelled):
        with pytest.raises(ScxError) as refused:
            opened(name)
        assert len(str(refused.value)) < 2000, opened
