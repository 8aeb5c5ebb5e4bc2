"""The documents name code that exists, and the code cites sections of the method that exist."""

from __future__ import annotations

import importlib
import re
import tomllib
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CITED = re.compile(r"[mM]ethod,? §\d[^\n]*")
NAMED = re.compile(r"`(scx_core(?:\.\w+)+)[(]?[^`]*`")


def method_sections() -> set[int]:
    """The numbers of the sections of docs/method.md."""
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    return {int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)}


def cited_sections() -> dict[int, set[str]]:
    """Sections of the method that comments cite ("method §4 to §8", "method §6, §9"), and where."""
    found: dict[int, set[str]] = {}
    for folder in ("scx_core", "tests", "pages", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            for line in CITED.findall(file.read_text(encoding="utf-8")):
                for number in re.findall(r"§(\d+)", line):
                    found.setdefault(int(number), set()).add(str(file.relative_to(ROOT)))
    return found


def test_every_cited_section_of_the_method_exists():
    cited = cited_sections()
    assert len(cited) >= 9 and sum(map(len, cited.values())) >= 40  # the pattern still finds them
    missing = {number: files for number, files in cited.items() if number not in method_sections()}
    assert not missing


def test_the_sections_are_numbered_without_a_gap():
    assert method_sections() == set(range(1, max(method_sections()) + 1))


def resolved(name: str) -> object:
    """The module, function, class or method that a dotted name stands for. Raises AttributeError."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            continue
        return reduce(getattr, parts[end:], module)
    raise AttributeError(name)


def test_a_name_that_does_not_exist_is_found_out():
    with pytest.raises(AttributeError):
        resolved("scx_core.metrics.definitions.no_such_function")


@pytest.mark.parametrize("page", ["docs/method.md", "docs/architecture.md"])
def test_names_of_code_in_the_documents_exist(page):
    names = sorted(set(NAMED.findall((ROOT / page).read_text(encoding="utf-8"))))
    assert len(names) > 10
    missing = []
    for name in names:
        try:
            resolved(name)
        except AttributeError:
            missing.append(name)
    assert not missing, f"{page} names what is not there: {missing}"


def test_the_table_of_rooms_is_the_order_that_imports_obey():
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(rule for rule in rules["contracts"] if rule["id"] == "rooms")["layers"]
    wanted = [name.removeprefix("scx_core.") for name in reversed(layers) if name.startswith("scx_core.")]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("Beside the package")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == wanted


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/method.md", "docs/architecture.md"])
def test_links_and_paths_in_the_documents_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    here = (ROOT / page).parent
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    missing = [link for link in links if not (here / link).exists()]
    named = re.findall(r"`((?:scx_core|tests|docs|benchmarks|pages|models)/[\w./-]+)`", text)
    assert not missing + [path for path in named if not (ROOT / path).exists()]


# Files of other projects, or made while a command runs.
NOT_OURS = re.compile(r"modeling_\w+\.py|pytorch_utils\.py|torch\.py|peer\.py")


def test_files_that_comments_and_documents_point_to_exist():
    """`x.py` or `room/x.py` in a comment, docstring or document is a file of the repository."""
    code = [path for top in ("scx_core", "pages", "benchmarks") for path in (ROOT / top).rglob("*.py")]
    known = [
        f"/{path.relative_to(ROOT)}"
        for path in [*code, *ROOT.glob("*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("docs/**/*.py")]
    ]
    missing = {}
    for path in [*code, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for name in re.findall(r"(?<![\w./<{*-])(?:\w+/)*\w+\.py\b", path.read_text(encoding="utf-8")):
            if not NOT_OURS.fullmatch(name) and not any(one.endswith(f"/{name}") for one in known):
                missing.setdefault(name, str(path.relative_to(ROOT)))
    assert not missing
