import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from scx_core import __version__
from scx_core.cli import main
from scx_core.cli.main import COMMANDS, CommandParser, printable
from scx_core.errors import ScxError

NAMES = ("prepare", "train", "validate", "trace", "circuit", "export", "demo")


def test_the_list_of_commands_does_not_wait_for_torch():
    code = (
        "import sys\n"
        "from scx_core.cli.main import make_parser\n"
        "print(make_parser().format_help())\n"
        "heavy = {'torch', 'scanpy', 'anndata', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"    {name} " in done.stdout for name in NAMES)


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0 and __version__ in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_lists_the_common_options(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0
    assert all(option in shown for option in ("--json FILE", "--quiet", "--seed", "--data", "--label"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["COMMAND"]),
        (["paint"], ["paint", "prepare"]),
        (["prepare", "--nope"], ["--nope"]),
        (["prepare", "--n-genes", "many"], ["--n-genes", "'many'", "2 to 8192"]),
        (["prepare", "--seed", "-1"], ["--seed", "at least 0"]),
        (["prepare", "--prompt", "c2s-99"], ["c2s-99", "scx"]),
        (["prepare", "--data", "none.h5ad"], ["none.h5ad"]),
        (["prepare", "--label", "colour"], ["colour", "bulk_labels"]),
        (["train", "--preset", "best"], ["best", "recommended"]),
        (["train", "--run", "nowhere"], ["nowhere"]),
        (["train", "--kind", "gelu"], ["--kind", "batchtopk"]),
        (["train", "--model", "./nowhere"], ["nowhere"]),
        (["validate", "--batch", "0"], ["--batch", "at least 1"]),
        (["trace", "--node-share", "2"], ["--node-share", "0.0 to 1.0"]),
        (["circuit", "--cells", "1"], ["--cells", "at least 2"]),
        (["export", "none.json"], ["none.json"]),
        (["demo", "build", "--presets", "best", "--readings", "0"], ["--readings", "at least 1"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("scx: error: ") and shown.err.count("\n") == 1, shown.err
    assert all(part in shown.err for part in parts), shown.err


def test_ctrl_c_ends_with_130_and_a_line(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt("stopped; more later")

    monkeypatch.setattr(COMMANDS[0], "run", interrupted)
    assert main(["prepare"]) == 130
    assert capsys.readouterr().err == "scx: stopped; more later\n"


def test_ctrl_c_without_a_word_still_says_stopped(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS[0], "run", interrupted)
    assert main(["prepare"]) == 130 and capsys.readouterr().err == "scx: stopped\n"


def test_a_bug_is_not_hidden(monkeypatch):
    def broken(args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(COMMANDS[0], "run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["prepare"])


def test_names_cannot_steer_the_terminal(monkeypatch, capsys):
    def hostile(args):
        raise ScxError("There is no gene \x1b[2J\x07CD\u202e3.", "Look again.")

    monkeypatch.setattr(COMMANDS[0], "run", hostile)
    assert main(["prepare"]) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown and "\x07" not in shown and "\u202e" not in shown and "CD" in shown
    assert printable("HLA-DRA ≥ 3\n") == "HLA-DRA ≥ 3\n"


def test_json_goes_to_the_standard_output_alone(monkeypatch, capsys):
    monkeypatch.setattr(COMMANDS[0], "run", lambda args: {"gene": "CD3E", "value": float("nan")})
    assert main(["prepare", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == {"gene": "CD3E", "value": None}


def test_json_that_cannot_be_written_is_a_mistake(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(COMMANDS[0], "run", lambda args: {})
    assert main(["prepare", "--quiet", "--json", str(tmp_path / "file" / "a.json")]) == 2
    assert "a.json could not be written" in capsys.readouterr().err


def test_a_reader_that_has_had_enough_is_no_error():
    command = f"{sys.executable} -m scx_core --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and done.stdout.startswith("usage: scx")


def test_options_are_added_once_and_only_when_needed():
    calls = []
    parser = CommandParser(prog="scx x", command=SimpleNamespace(options=calls.append))
    assert calls == []
    parser.parse_args([])
    parser.parse_args([])
    assert calls == [parser]
    with pytest.raises(ScxError, match="scx x --help"):
        parser.parse_args(["--wrong"])
