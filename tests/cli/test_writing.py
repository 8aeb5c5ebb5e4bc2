"""Whatever can fail in writing is found before the work, and fails as one line that leaves nothing behind."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from scx_core.cli import common, main
from scx_core.errors import ScxError
from scx_core.runs.files import TEMPORARY, check_target, write_atomic

LONG = "a" * 300
Usage = namedtuple("Usage", "total used free")


def refused(capsys, *words: object) -> str:
    """The one line of a command that must fail."""
    assert main([*map(str, words), "--quiet"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("scx: error: "), lines
    return lines[0]


@pytest.fixture
def no_work(monkeypatch):
    """Nothing may be opened before the place is known to be good."""

    def opened(*_args, **_options):
        raise AssertionError("the work began")

    for name in ("open_table", "open_language", "open_transcoders", "open_tracer"):
        monkeypatch.setattr(common, name, opened)
    monkeypatch.setattr("scx_core.transcoders.load_set", opened)
    monkeypatch.setattr("scx_core.validation.compare_runs", opened)


def commands(files, out: object) -> dict[str, list[object]]:
    """Every command that writes where it is told to, with `out` for that."""
    found = files.transcoders[1]
    return {
        "annotate": ["annotate", *files.all, "--out", out],
        "export": ["export", *files.all, "--out", out],
        "export one": ["export", *files.all, "--out", f"{out}/one.png"],
        "atlas": ["atlas", *files.all, "--out", out],
        "atlas report": ["atlas", *files.all, "--report", out],
        "atlas install": ["atlas", *files.all, "--install", out],
        "transcoders": ["transcoders", "export", found, "--out", out],
        "import": ["transcoders", "import", found, "--out", out],
        "match": ["match", found, found, *files.data, *files.model, "--out", out],
        "rate": ["rate", "export", "--out", out],
        "compare": ["compare", files.run, "--out", out],
        "sets": ["sets", "--keep", out],
        **{
            f"{name} json": [name, *files.all, "--json", out]
            for name in (
                "validate",
                "trace",
                "circuit",
                "difference",
                "heads",
                "paths",
                "smallest",
                "knockouts",
            )
        },
        "prepare json": ["prepare", *files.data, "--json", out],
    }


NAMES = [
    "annotate", "export", "export one", "atlas", "atlas report", "atlas install", "transcoders", "import",
    "match", "rate", "compare", "sets", "validate json", "trace json", "circuit json", "difference json",
    "heads json", "paths json", "smallest json", "knockouts json", "prepare json",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_cannot_be_is_refused_before_the_work(files, tmp_path, capsys, no_work, name):
    (tmp_path / "file").write_text("mine")
    assert set(commands(files, "x")) == set(NAMES)
    assert "Not a directory" in refused(capsys, *commands(files, tmp_path / "file" / "x")[name])
    assert "too long" in refused(capsys, *commands(files, tmp_path / LONG)[name])
    assert "too long" in refused(capsys, *commands(files, tmp_path / "new" / LONG / "x")[name])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["annotate", "match", "rate", "sets", "atlas report", "trace json"])
def test_a_folder_is_no_file(files, tmp_path, capsys, no_work, name):
    assert "is a folder" in refused(capsys, *commands(files, tmp_path)[name])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["atlas", "compare", "export", "atlas install"])
def test_a_file_is_no_folder(files, tmp_path, capsys, no_work, name):
    (tmp_path / "file").write_text("mine")
    assert "not a folder" in refused(capsys, *commands(files, tmp_path / "file")[name])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["annotate", "trace json", "prepare json", "match", "atlas report"])
def test_what_is_read_is_not_written_over(files, tmp_path, capsys, no_work, name):
    data = Path(files.data[1])
    before = data.read_bytes()
    (tmp_path / "link.h5ad").symlink_to(data)
    os.link(data, tmp_path / "hard.h5ad")
    for same in (
        data,
        tmp_path / "link.h5ad",
        tmp_path / "hard.h5ad",
        data.parent / ".." / data.parent.name / data.name,
    ):
        assert "is the file that is read" in refused(capsys, *commands(files, same)[name])
    assert data.read_bytes() == before


@pytest.mark.parametrize("name", ["annotate", "transcoders", "import"])
def test_too_little_space_is_found_before_the_work(files, tmp_path, capsys, no_work, monkeypatch, name):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 100, 100))
    said = refused(capsys, *commands(files, tmp_path / "new")[name])
    assert "are needed" in said and "100 bytes are free" in said
    assert not list(tmp_path.iterdir())


CHILD = """
import json, resource, sys
from scx_core.cli import main
for words, largest in json.loads(sys.argv[1]):
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest or usual[0], usual[1]))
    print("code", main([*words, "--quiet"]), file=sys.stderr, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)
"""


@pytest.fixture(scope="module")
def said_apart(files, tmp_path_factory) -> tuple[list[str], Path]:
    """What commands say that fail in writing, in a process of their own, which ends as it should:
    the one line of each, and where they were to write. A full device, then files of 1,500 bytes at most."""
    folder = tmp_path_factory.mktemp("full")
    asked: list[tuple[list[object], int]] = []
    if device_full():
        asked.append((["prepare", *files.data, "--runs", folder / "runs", "--json", "/dev/full"], 0))
        asked.append((["annotate", *files.all, "--out", "/dev/full"], 0))
    asked += [(commands(files, folder / "new")[name], 1500) for name in ("annotate", "transcoders")]
    words = json.dumps([([str(word) for word in one], largest) for one, largest in asked])
    command = [sys.executable, "-c", CHILD, words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    *parts, rest = done.stderr.split("code 2\n")
    assert len(parts) == len(asked) and not rest.strip(), done.stderr
    lines = [[line for line in part.splitlines() if line.startswith("scx")] for part in parts]
    assert all(len(said) == 1 for said in lines), done.stderr
    return [said for (said,) in lines], folder


def device_full() -> bool:
    return Path("/dev/full").exists() and stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.skipif(not device_full(), reason="there is no /dev/full here")
def test_a_full_device_is_one_line_and_stays_a_device(said_apart):
    lines, _ = said_apart
    assert len(lines) == 4 and all("the disk is full" in said for said in lines[:2])
    assert device_full()


def test_standard_output_by_name_stays_what_it_is(files, tmp_path):
    before = os.lstat("/dev/null")
    assert (
        main(["prepare", *files.data, "--runs", str(tmp_path / "runs"), "--quiet", "--json", "/dev/null"])
        == 0
    )
    assert os.lstat("/dev/null").st_rdev == before.st_rdev and stat.S_ISCHR(os.lstat("/dev/null").st_mode)


def test_a_disk_that_fills_up_on_the_way_leaves_no_half_file(said_apart):
    """HDF5 and safetensors say it in words of their own."""
    lines, folder = said_apart
    assert all("the disk is full or a size limit is reached" in said for said in lines[-2:])
    assert not [one for one in (folder / "new").rglob("*") if one.is_file() or TEMPORARY in one.name]


@pytest.mark.parametrize("bad", ["", " ", "a\0b"])
def test_what_is_no_name(bad):
    with pytest.raises(ScxError, match="is no name"):
        check_target(bad)


def test_nothing_is_left_of_a_check_that_passes(tmp_path):
    check_target(tmp_path / "new" / "deep" / "x.json")
    check_target(tmp_path / "new", folder=True)
    assert not list(tmp_path.iterdir())


def test_the_longest_legal_name_is_written(tmp_path):
    path = tmp_path / ("b" * 250 + ".txt")
    check_target(path)
    write_atomic(path, "x")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    write_atomic(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "file").read_text() == "x"


def test_a_circle_of_links_is_a_users_mistake(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for path, folder in ((tmp_path / "a" / "x", False), (tmp_path / "a", True)):
        with pytest.raises(ScxError):
            check_target(path, folder=folder)
