"""What is declared is what is used: imports, versions, places, and the papers of the package."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import scx_core
from scx_core import places
from scx_core.cli import main
from scx_core.errors import ScxError

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = {"scx_core", "pages"}
# Asked for in the code before it is imported, with one line that says how to install it.
OPTIONAL = {"gseapy": "online"}
# Used by what we import, and not through an import of ours: what for.
INDIRECT = {
    "protobuf": "transformers reads SentencePiece models with it",
    "sentencepiece": "the tokenizers of Gemma and Llama checkpoints",
}


def imported(*tops: str) -> dict[str, str]:
    """The outside packages that the code imports anywhere, also within functions, and a file that does."""
    files = [
        file for top in tops for file in ((ROOT / top).rglob("*.py") if "." not in top else [ROOT / top])
    ]
    found: dict[str, str] = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            found |= {name.split(".")[0]: str(file.relative_to(ROOT)) for name in names}
    return {name: file for name, file in found.items() if name not in OURS | set(sys.stdlib_module_names)}


def declared(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_every_import_of_the_wheel_is_declared_and_every_declared_package_is_used():
    owners = packages_distributions()
    used = {}
    for name, file in imported("scx_core", "pages", "app.py").items():
        if name in OPTIONAL:
            assert name in declared(PROJECT["optional-dependencies"][OPTIONAL[name]])
        else:
            used |= {canonicalize_name(owner): file for owner in owners.get(name, [name])[:1]}
    used.pop("ipython", None)  # imported in a notebook alone, which brings it
    asked = declared(PROJECT["dependencies"])
    assert len(used) > 15 and "torch" in used  # the search still finds them
    assert {name: file for name, file in used.items() if name not in asked} == {}
    assert asked - used.keys() == set(INDIRECT)


def test_a_plain_install_brings_no_tools_of_tests_or_documents():
    asked = declared(PROJECT["dependencies"])
    tools = {
        "pytest",
        "hypothesis",
        "ruff",
        "mypy",
        "playwright",
        "sphinx",
        "sae-lens",
        "tensorboard",
        "gseapy",
    }
    assert not asked & tools
    assert {"test", "peers", "tensorboard", "online", "dev"} <= PROJECT["optional-dependencies"].keys()
    assert PROJECT["name"] == "scx-circuits" and PROJECT["scripts"] == {"scx": "scx_core.cli:main"}


def test_the_newest_entry_of_the_changelog_is_this_version_and_so_is_a_tag():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert titles[0] == "Unreleased" and titles[1] == scx_core.__version__
    words = ["git", "tag", "--points-at", "HEAD"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    tags = [tag for tag in done.stdout.split() if re.match(r"v\d", tag)]
    assert tags in ([], [f"v{scx_core.__version__}"])


def test_models_and_dashboard_are_found_beside_the_package_and_inside_it(tmp_path, monkeypatch):
    assert not places.installed()
    assert places.models_folder() == ROOT / "models" and places.app_folder() == ROOT
    package = tmp_path / "site-packages" / "scx_core"
    for folder in ("_models/embedded", "_app/pages", "../models", "../pages"):
        (package / folder).mkdir(parents=True)
    for file in ("_app/app.py", "../app.py"):  # those beside it belong to others
        (package / file).write_text("")
    monkeypatch.setattr(places, "PACKAGE", package)
    assert places.models_folder() == package / "_models" and places.app_folder() == package / "_app"
    (package / "_app" / "app.py").unlink()
    with pytest.raises(ScxError, match="dashboard is not here"):
        places.app_folder()


def test_nothing_is_installed_into_an_installed_package(tmp_path, monkeypatch, capsys):
    (tmp_path / "_models").mkdir()
    monkeypatch.setattr(places, "PACKAGE", tmp_path)
    assert main(["demo", "build", "--install", "--runs", str(tmp_path / "runs")]) == 2
    assert "--install FOLDER" in capsys.readouterr().err and not (tmp_path / "runs").exists()
