"""CITATION, recipe, container, templates: whole, and of one mind with pyproject.toml."""

from __future__ import annotations

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import scx_core

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA = {
    "pytorch": "torch",
    "matplotlib-base": "matplotlib",
    "huggingface_hub": "huggingface-hub",
}  # other names there


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_citation_is_of_this_version_and_names_the_seed_paper():
    cited = yaml.safe_load(read("CITATION.cff"))
    assert cited["version"] == scx_core.__version__ and cited["license"] == PYPROJECT["project"]["license"]
    (paper,) = cited["references"]
    assert paper["url"].endswith("2509.14723") and len(paper["authors"]) == 5


def test_the_conda_recipe_asks_for_what_the_wheel_asks_for():
    recipe = yaml.safe_load(read("packaging/recipe.yaml"))
    assert recipe["context"]["version"] == scx_core.__version__
    asked = {}
    for line in recipe["requirements"]["run"]:
        name, _, versions = line.partition(" ")
        asked[CONDA.get(name, name)] = versions
    assert asked.pop("python").removesuffix("${{ python_min }}") == ">="
    assert PYPROJECT["project"]["requires-python"] == f">={recipe['context']['python_min']}"
    wanted = {(one := Requirement(line)).name: one.specifier for line in PYPROJECT["project"]["dependencies"]}
    assert {name: SpecifierSet(versions) for name, versions in asked.items()} == wanted


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", read("Dockerfile"), flags=re.MULTILINE))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def test_the_container_runs_the_app_for_a_user_without_rights_and_says_how_it_is():
    stages = instructions()
    of = {word: rest for word, rest in stages}  # noqa: C416  the last of each kind counts, as it does there
    assert of["USER"].isdecimal() and int(of["USER"]) > 0
    assert "_stcore/health" in of["HEALTHCHECK"] and of["ENTRYPOINT"] == '["scx"]'
    assert of["WORKDIR"] == of["VOLUME"] == "/work" and '"app"' in of["CMD"]
    users = [place for place, (word, _) in enumerate(stages) if word == "USER"]
    assert all(word not in ("RUN", "COPY") for word, _ in stages[users[-1] :])


def test_the_container_gets_everything_that_the_wheel_is_made_of():
    copied = [
        word
        for kind, rest in instructions()
        if kind == "COPY" and "--from" not in rest
        for word in shlex.split(rest)[:-1]
    ]
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["packages"], *wheel["force-include"], "pyproject.toml", PYPROJECT["project"]["readme"]]
    for name in [*needed, *PYPROJECT["project"]["license-files"]]:
        assert any(name == word or name.startswith(f"{word}/") for word in copied), name
    allowed = [line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")]
    assert all((ROOT / word).exists() and any(fnmatch(word, one) for one in allowed) for word in copied)


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_templates_and_workflow_are_read_as_yaml(path):
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.parent.name == "workflows":
        steps = [step.get("run") for job in found["jobs"].values() for step in job["steps"]]
        assert ".ci/run" in steps and found["permissions"] == {"contents": "read"}
    elif path.name != "config.yml":
        names = [field["id"] for field in found["body"]]
        assert found["name"] and found["description"] and len(set(names)) == len(names)


def test_pre_commit_runs_tools_that_the_dev_extra_brings():
    hooks = [
        hook for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]
    ]
    extra = PYPROJECT["project"]["optional-dependencies"]
    brought = {Requirement(line).name for line in [*extra["dev"], *extra["test"]]}
    assert {"ruff", "mypy"} <= {hook["id"] for hook in hooks}
    tools = {"ruff-format": "ruff"}
    assert {tools.get(hook["id"], hook["id"]) for hook in hooks} | {"pre-commit"} <= brought


def test_the_table_of_dependencies_names_each_of_them():
    rows = re.findall(r"^\| ([a-z][\w ,()-]+) \| ", read("README.md"), re.MULTILINE)
    named = {name.strip() for row in rows for name in row.replace("(optional)", "").split(",")}
    asked = {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]}
    assert asked <= named, asked - named
