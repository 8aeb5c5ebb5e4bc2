"""Where runs live."""

from __future__ import annotations

import os
from pathlib import Path


def runs_root() -> Path:
    """The environment's SCX_RUNS, else `runs` in the current folder."""
    return Path(os.environ.get("SCX_RUNS") or "runs").absolute()
