from pathlib import Path

from scx_core.runs import runs_root


def test_runs_live_here_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCX_RUNS", raising=False)
    assert runs_root() == tmp_path / "runs"
    monkeypatch.setenv("SCX_RUNS", "")
    assert runs_root() == tmp_path / "runs"
    monkeypatch.setenv("SCX_RUNS", "/data/runs")
    assert runs_root() == Path("/data/runs").absolute()
