"""What is asked of the features of a set: found again in another set, tested with gene sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scx_core.atlas import Atlas, Match, MatchConfig, Side, match_sets, open_gene_sets, with_gene_sets
from scx_core.atlas.atlas_folder import FOLDER
from scx_core.circuits.schema import read_object
from scx_core.errors import ScxError
from scx_core.runs import Progress, from_dict
from scx_core.tasks.answer_shapes import Matched, Pairs, Shares, table
from scx_core.tasks.sources import Opened
from scx_core.tasks.task import Task
from scx_core.transcoders.sources import Sources
from scx_core.validation.result import plain

GENE_SETS = "gene-sets"


def match(opened: Opened, asked: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """`asked`: other (a set, as `load_set` takes it), fingerprint (of that set), cfg. Raises ScxError."""
    other = opened.another_set(asked["other"])
    if other.fingerprint != asked["fingerprint"]:
        raise ScxError("The other set is not what it was when this was asked.", "Ask again.")
    sides = Side(opened.lm, opened.coders), Side(opened.lm, other)
    found = match_sets(*sides, opened.table, cfg=from_dict(MatchConfig, asked["cfg"]), progress=progress)
    pairs, shares = (frame.to_dict("list") for frame in (found.pairs, found.shares))
    return plain({"pairs": pairs, "shares": shares, "skipped": found.skipped, "provenance": found.provenance})


def read_match(record: dict[str, Any]) -> Match:
    """What `match` gave. Raises Misfit."""
    found = read_object(Matched, record)
    pairs, shares = table(Pairs, found["pairs"], "pairs"), table(Shares, found["shares"], "shares")
    return Match(pairs, shares, found["skipped"], found["provenance"])


def gene_sets(opened: Opened, asked: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """`asked`: atlas (its folder's name), files, as `open_gene_sets` takes them, organism. The atlas is
    judged anew on disk, where it lies; what was tested before stays in it until then. Raises ScxError."""
    progress(0, 1, "testing every feature, and sets with permuted names beside them")
    atlas = Atlas.open(opened.root / FOLDER / asked["atlas"])
    judged = with_gene_sets(atlas, open_gene_sets(asked["files"], asked["organism"]))
    return {"tested": plain(judged.meta["gene_sets"])}


def gene_sets_task(sources: Sources, folder: Path, files: list[str], organism: str) -> Task:
    """The test of the atlas in a folder. Its name is that of the atlas alone: one test at a time, which every
    tab finds whatever its files are."""
    asked = {"atlas": folder.name, "files": files, "organism": organism}
    return Task(GENE_SETS, "Test of gene sets", sources, asked, {"atlas": folder.name})
