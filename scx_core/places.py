"""Where the dashboard and the shipped models lie: beside the package in a checkout, inside it once installed.

The wheel holds `app.py`, `pages/` and `.streamlit/` as `scx_core/_app` and `models/` as `scx_core/_models`
(`[tool.hatch]` in pyproject.toml), so that names as common as `pages` and `models` never lie in
site-packages. What is inside the package comes first: beside an installed package everything is of others.
"""

from __future__ import annotations

from pathlib import Path

from scx_core.errors import ScxError

PACKAGE = Path(__file__).resolve().parent
APP, MODELS = "_app", "_models"  # inside an installed package


def installed() -> bool:
    """Whether this package came from a wheel, with everything inside it; else it is a checkout."""
    return (PACKAGE / MODELS).is_dir()


def models_folder() -> Path:
    """The folder of the models, transcoder sets and atlases that ship. It may be missing: whoever reads it
    says so."""
    return PACKAGE / MODELS if installed() else PACKAGE.parent / "models"


def app_folder() -> Path:
    """The folder of `app.py`, `pages/` and `.streamlit/`. Raises ScxError where there is no dashboard."""
    folder = PACKAGE / APP if installed() else PACKAGE.parent
    if not (folder / "app.py").is_file() or not (folder / "pages").is_dir():
        raise ScxError(
            f"The dashboard is not here: there is no app.py with its pages in {folder}.",
            "Install scx-circuits again, or call it from a whole checkout of the repository.",
        )
    return folder
