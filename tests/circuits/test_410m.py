"""The true Pythia-410m dimensions with random weights: load and trace one cell within 8 GiB."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile

import pytest

from scx_core.language import EMBEDDED


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not EMBEDDED.is_dir(), reason="the embedded model is not built")
@pytest.mark.skipif(shutil.disk_usage(tempfile.gettempdir()).free < 5e9, reason="needs 5 GB of disk")
def test_a_410m_model_is_traced_within_8_gib(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "scx_core", "bench", "410m", "--nodes", "64", "--quiet", "--json"]
    subprocess.run([*command, str(report)], check=True, timeout=850)
    found = json.loads(report.read_text())
    assert found["tokens"] > 300
    assert found["peak_memory_gib"] < 8
    assert found["max_relative_error"] < 1e-4
