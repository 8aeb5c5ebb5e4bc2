"""Former names of genes: data and gene sets of different years name the same gene differently."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

# Two families were renamed because spreadsheets took their names for dates; some files still hold dates.
_RULES = (
    (re.compile(r"(?:MARCH|(?=\d+-MAR$))(\d+)(?:-MAR)?"), "MARCHF{}"),
    (re.compile(r"(?:SEPT|(?=\d+-SEP$))(\d+)(?:-SEP)?"), "SEPTIN{}"),
)


@cache
def current_name(gene: str) -> str:
    """The symbol that is approved now for an upper-case symbol, or the symbol itself: IGJ is JCHAIN."""
    for pattern, name in _RULES:
        if found := pattern.fullmatch(gene):
            return name.format(int(found[1]))
    return _renamed().get(gene, gene)


def name_lookup(known: Iterable[str]) -> dict[str, int]:
    """Number of a gene among `known` by every name it may go by here: its own first, else its current one."""
    known = list(known)
    numbers = {current_name(gene): number for number, gene in reversed(list(enumerate(known)))}
    return numbers | {gene: number for number, gene in enumerate(known)}


@cache
def _renamed() -> dict[str, str]:
    text = resources.files(__package__).joinpath("gene_aliases.json").read_text(encoding="utf-8")
    found: dict[str, str] = json.loads(text)["renamed"]
    return found
