"""What lies in the runs folder is listed, and deleted only there, by its name, and never while it is made."""

from __future__ import annotations

import pytest

from scx_core.cli.main import main
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, read_json
from scx_core.runs.kept import delete_kept, kept


@pytest.fixture
def root(tmp_path):
    """A training, a job, an atlas, an answer and a record of evidence; beside them what is not ours."""
    runs = tmp_path / "runs"
    RunFolder.create(runs, "train", {"data": "x"}, "mine").write_status("done", 1, 1)
    RunFolder.create(runs / "tasks" / "jobs", "circuit", {"title": "B cells"}, "circuit-1")
    for file in ("atlases/a-1/atlas.json", "results/circuit/0123.json", "evidence/B-1.json", "notes.txt"):
        path = runs / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / "outside.json").write_text("{}")
    return runs


NAMES = {"mine", "tasks/jobs/circuit-1", "atlases/a-1", "results/circuit/0123.json", "evidence/B-1.json"}


def test_all_is_listed_and_each_goes_alone(root):
    assert {one.name for one in kept(root)} == NAMES
    (mine,) = [one for one in kept(root) if one.name == "mine"]
    assert (mine.what, mine.state) == ("train", "done") and mine.bytes > 50
    left = set(NAMES)
    for name in sorted(NAMES):
        delete_kept(name, root)
        left.discard(name)
        assert {one.name for one in kept(root)} == left
    assert (root / "notes.txt").exists() and not list(root.glob(".deleted*"))


ELSE = ["../outside.json", "", ".", "notes.txt", "/etc/passwd", "mine/../mine", "results"]


@pytest.mark.parametrize("name", ELSE)
def test_nothing_else_can_be_deleted(root, name):
    with pytest.raises(ScxError, match="There is no"):
        delete_kept(name, root)
    assert (root.parent / "outside.json").exists() and (root / "notes.txt").exists()


def test_what_is_at_work_stays(root):
    run = RunFolder.open(root / "mine")
    with run.lock(), pytest.raises(ScxError, match="at work"):
        delete_kept("mine", root)
    inner = RunFolder.create(run.path, "train", {}, "train-quick")
    with inner.lock(), pytest.raises(ScxError, match="at work"):
        delete_kept("mine", root)
    delete_kept("mine", root)
    assert not (root / "mine").exists()


def test_a_link_is_not_followed(root, tmp_path):
    other = RunFolder.create(tmp_path / "elsewhere", "train", {}, "far")
    (root / "linked").symlink_to(other.path)
    with pytest.raises(ScxError, match="link"):
        delete_kept("linked", root)
    assert (other.path / "run.json").exists()


def test_the_command_lists_and_deletes_when_it_is_asked_twice(root, tmp_path, capsys):
    there = ["--runs", str(root)]
    assert main(["runs", *there, "--json", str(tmp_path / "list.json")]) == 0
    assert {one["name"] for one in read_json(tmp_path / "list.json")["runs"]} == NAMES
    assert "B cells" in capsys.readouterr().out
    assert main(["runs", "delete", "mine", *there]) == 2 and (root / "mine").exists()
    assert main(["runs", "delete", "mine", "--yes", *there]) == 0 and not (root / "mine").exists()
    assert main(["runs", "resume", "../outside.json", *there]) == 2
    assert "is not in" in capsys.readouterr().err
