"""Sentences that were once said here and do not hold: nobody writes them again.

Read are README, docs, the cards of the models, pages, figures, the command line, and what circuits and
validations say of themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = (
    "README.md",
    "CONTRIBUTING.md",
    "app.py",
    "docs/*.md",
    "models/*/README.md",
    "pages/**/*.py",
    "scx_core/**/*.py",
    "scx_core/**/*.html",
    "scx_core/**/*.js",
)
# What may not be said: the pattern, an old sentence that it finds, and why the sentence does not hold.
OLD = (
    (
        r"prefers? this answer|answer is preferred",
        "The model prefers this answer in 84% of the cells.",
        "one token was asked; “called” is the whole answer",
    ),
    (
        r"beats? (?:its|all|the other) competitors",
        "The answer beats its competitors in 12 cells.",
        "whoever parts at another token was not asked",
    ),
    (
        r"effects? of removing|would lose without it over all paths|what removing it does",
        "The total effect of removing the gene.",
        "a frozen attribution is no knock-out",
    ),
    (
        r"most active at",
        "most active at MZB1",
        "the name was the driver's; a name says what share of its activation lies there",
    ),
    (
        r"(?:nulls?|shuffled|shuffles)\W{0,3}(?:of )?0(?:\.0+)? ?%",
        "Gene-level 40.6% of live features, nulls 0.0%.",
        "whatever reads a token beats the shuffles",
    ),
    (
        r"faithfully|faithful (?:to|stand|copy)",
        "The transcoders stand in for the model faithfully.",
        "a linear map may do the same: figures beside it instead",
    ),
    (
        r"47 times smaller|\d+ times smaller than the influence cut",
        "A circuit 47 times smaller than the influence cut.",
        "of a target to which features add next to nothing",
    ),
    (
        r"every mark(?:er)? (?:gene )?is found|recovers the known markers",
        "The circuit recovers the known markers.",
        "differential expression finds as many: counts stand beside its counts",
    ),
    (
        r"(?<!effect )(?<!effects )(?<!attribution )\bhigher in \{",
        'f"higher in {both[0]}"',
        "an effect on the answer is higher, not the expression",
    ),
    (
        r"genes (?:that|which) the model uses\b|features that the model uses\b",
        "The genes and features that the model uses for its answer.",
        "an attribution is no use: other genes named as well are as good",
    ),
)
CONDITION = r"only then|features are needed|so its circuits|until it is"


def said() -> Iterator[tuple[str, str]]:
    """Files and their paragraphs, each on one line, quotes of the code that join a sentence taken out."""
    for pattern in PLACES:
        for path in sorted(ROOT.glob(pattern)):
            text = re.sub(r"[\"”]\s*\n\s*f?[\"“]", "", path.read_text(encoding="utf-8"))
            for paragraph in re.split(r"\n\s*\n", text):
                yield str(path.relative_to(ROOT)), " ".join(paragraph.split())


def test_there_is_something_to_read():
    files = {name for name, _ in said()}
    assert {
        "README.md",
        "docs/claims.md",
        "app.py",
        "pages/circuits.py",
        "scx_core/cli/circuits/trace.py",
    } <= files
    assert len(files) > 150


@pytest.mark.parametrize(("pattern", "old", "why"), OLD, ids=[old for _, old, _ in OLD])
def test_nobody_says_it_again(pattern, old, why):
    found = re.compile(pattern, re.IGNORECASE)
    assert found.search(old), "the pattern does not find the sentence that it is for"
    again = [(name, match.group()) for name, text in said() if (match := found.search(text))]
    assert not again, why


def test_what_a_model_computes_is_said_with_its_condition_alone():
    """“can be read as what the model computes” stands beside what makes it true."""
    found = [(name, text) for name, text in said() if re.search(r"be read as what (?:the model|it)", text)]
    assert {"docs/validation.md", "scx_core/validation/warnings.py"} <= {name for name, _ in found}
    alone = [name for name, text in found if not re.search(CONDITION, text, re.IGNORECASE)]
    allowed = {"scx_core/validation/warnings.py"}  # behind `if found.added.needed == YES`: test_warnings.py
    assert set(alone) <= allowed


def test_attributions_say_that_they_are_frozen():
    """Every table and hover line of effects says what an effect is."""
    texts = {
        name: text for name in ("pages/circuits.py", "scx_core/figures/captions.py") for text in [_all(name)]
    }
    assert all("rozen attribution" in text for text in texts.values())
    assert "total effect of" not in _all("README.md").lower()


def _all(name: str) -> str:
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())
