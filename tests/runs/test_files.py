import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scx_core.errors import ScxError
from scx_core.runs import append_jsonl, files, read_json, read_jsonl, sha256_of, write_atomic, write_json


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_write_replaces_whole_files_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.txt"]


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ScxError, match="a.txt could not be written: the disk is full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_in_the_way_is_a_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScxError, match="could not be written"):
        write_atomic(tmp_path / "file" / "a.txt", "x")


def test_json_is_strict_and_takes_numpy(tmp_path):
    data = {"a": np.float32(0.5), "b": np.arange(2), "c": float("nan"), "d": {"z", "y"}, 1: Path("p")}
    write_json(tmp_path / "a.json", data)
    assert read_json(tmp_path / "a.json") == {"a": 0.5, "b": [0, 1], "c": None, "d": ["y", "z"], "1": "p"}
    with pytest.raises(TypeError, match="object"):
        write_json(tmp_path / "b.json", {"a": object()})
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}", b"[" * 100_000])
def test_broken_json_names_the_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ScxError, match="a.json is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_absent_json_names_the_file(tmp_path):
    with pytest.raises(ScxError, match="There is no file .*none.json"):
        read_json(tmp_path / "none.json")


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text(), max_size=3), max_size=6), st.data())
def test_a_log_torn_anywhere_loses_only_what_was_torn(tmp_path_factory, records, data):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    for record in records:
        append_jsonl(path, record)
    assert read_jsonl(path) == records
    whole = path.read_bytes() if records else b""
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = records[: whole[:cut].count(b"\n")]
    assert read_jsonl(path) == kept
    append_jsonl(path, {"next": 1})
    assert read_jsonl(path) == [*kept, {"next": 1}]


def test_a_torn_line_longer_than_a_block_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_CHUNK", 8)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": "' + b"x" * 50)
    append_jsonl(path, {"c": 2})
    assert read_jsonl(path) == [{"a": 1}, {"c": 2}]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\nnonsense\n{"b": 2}\n')
    with pytest.raises(ScxError, match="Line 2 of .*log.jsonl"):
        read_jsonl(path)


def test_the_hash_of_a_folder_sees_names_and_bytes_but_not_dates(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a").write_text("1")
        (tmp_path / name / "b").write_text("2")
    os.utime(tmp_path / "y" / "b", (0, 0))
    assert sha256_of(tmp_path / "x") == sha256_of(tmp_path / "y")
    (tmp_path / "y" / "b").rename(tmp_path / "y" / "c")
    assert sha256_of(tmp_path / "x") != sha256_of(tmp_path / "y")
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c14")
    with pytest.raises(ScxError, match="none"):
        sha256_of(tmp_path / "none")


def test_written_json_is_readable_by_others(tmp_path):
    write_json(tmp_path / "a.json", {"gene": "HLA-DRA", "µ": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"gene": "HLA-DRA", "µ": 1}
