"""The script for a real card runs from end to end where there is none, and mixes no devices."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = "machine,operations,padding,speed,trace_big,tuning"


def test_a_dry_run_on_the_fake_card(tmp_path):
    tool = [sys.executable, str(ROOT / "tests/fake_cuda/fake_device.py"), "--strict", "--root", str(ROOT)]
    asked = [
        "-m",
        "benchmarks.gpu_check",
        "--tiny",
        "--device",
        "cuda",
        "--out",
        str(tmp_path),
        "--only",
        PARTS,
    ]
    done = subprocess.run([*tool, *asked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {name: part["ok"] for name, part in found.items()} == dict.fromkeys(PARTS.split(","), True)
