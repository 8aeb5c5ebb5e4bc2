"""Lists of genes, from the command line or a file: which of them can be edited, and what editing them does.

A file holds one symbol a line (`#` begins a comment), or is a GMT file, each of whose lines is a list. Of
every gene it is said whether the cells' sentences hold it. Knock-out takes genes out of the sentence, and the
next ones move up; over-expression puts them to the front, those that the sentence lacks too (edits.py).
Beside the joint edit of a list stand draws of random genes of the same ranks, edited in the same way.
Legend: C cells, S sets of genes, G genes of a list.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scx_core.atlas.gene_sets.gmt import read_gmt, text_of
from scx_core.cells.choices import as_names
from scx_core.circuits import ConsensusConfig, Tracer
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.measured_effects import joint_drops
from scx_core.evidence.rankings.rankers import rank_matched
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.hypothesis_tests import p_values, q_values
from scx_core.statistics.resampling import MeanInterval, Sampling, mean_interval, one_group

DOES = {"knock-out": "text", "over-expression": "front"}  # what is done: the way of edits.py
# Names by which papers call the proteins of genes whose symbol is another (HGNC).
ALIASES = {
    "B220": "PTPRC", "CALLA": "MME", "CD10": "MME", "CD11B": "ITGAM", "CD11C": "ITGAX", "CD123": "IL3RA",
    "CD127": "IL7R", "CD133": "PROM1", "CD138": "SDC1", "CD141": "THBD", "CD144": "CDH5", "CD16": "FCGR3A",
    "CD161": "KLRB1", "CD1C+": "CD1C", "CD20": "MS4A1", "CD21": "CR2", "CD23": "FCER2", "CD25": "IL2RA",
    "CD31": "PECAM1", "CD41": "ITGA2B", "CD42B": "GP1BA", "CD45": "PTPRC", "CD56": "NCAM1", "CD57": "B3GAT1",
    "CD62L": "SELL", "CD64": "FCGR1A", "CD8": "CD8A", "CTLA-4": "CTLA4", "HLADR": "HLA-DRA",
    "HLA-DR": "HLA-DRA", "PD-1": "PDCD1", "PD1": "PDCD1", "PD-L1": "CD274", "PDL1": "CD274", "TBET": "TBX21",
    "T-BET": "TBX21", "VE-CADHERIN": "CDH5",
}  # fmt: skip


@dataclass(frozen=True)
class GeneListConfig:
    """In which cells lists are edited, and beside what."""

    cells: int = option(12, "Cells of the type whose sentences are edited", minimum=2)
    draws: int = option(10, "Draws of random genes of the same ranks", minimum=2)
    most: int = option(60, "Genes of a list that are edited alone; all are edited together", minimum=0)
    seed: int = option(0, "Seed that draws cells, random genes and the bootstrap", minimum=0)


GENE_LISTS = GeneListConfig()


def read_gene_lists(path: Path | str) -> dict[str, list[str]]:
    """Lists by name: the sets of a GMT file, or one list of one symbol a line, named as the file.

    Symbols come upper-case, each once. Raises ScxError naming the file where it holds none or cannot be read.
    """
    path = Path(path)
    lines = [line.partition("#")[0].strip() for line in text_of(path).splitlines()]
    if any("\t" in line for line in lines):
        return {one.name: list(one.genes) for one in read_gmt(path).sets}
    genes = []
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1:
            raise ScxError(f"Line {number} of {path} holds more than a symbol.", "Give one symbol a line.")
        genes += [line.upper()] if line else []
    if not genes:
        raise ScxError(f"{path} holds no gene.", "Give one symbol a line.")
    return {path.stem: list(dict.fromkeys(genes))}


class GenePresence(NamedTuple):
    """Where a gene of a list is. `found`: the table's symbol, or None; `held`: how many of the `n` cells'
    sentences hold it; `words` says it for people."""

    asked: str
    found: str | None
    held: int
    n: int

    @property
    def words(self) -> str:
        """ "in the sentence of 0 of 12 cells", "not in the file; did you mean …"."""
        name = "" if self.found in (None, self.asked) else f"another name of {self.found}, "
        if self.found is None:
            return "not in the file"
        return f"{name}in the file and in the sentence of {self.held} of {self.n} cells"


def find_genes(tracer: Tracer, genes: Sequence[str], rows: Sequence[int] | np.ndarray) -> list[GenePresence]:
    """Each gene's symbol in the table, also by another spelling or name, and how many sentences hold it."""
    symbols = {str(name) for name in tracer.table.symbols}
    bare = {_bare(name): name for name in sorted(symbols)}
    sentences = [set(cell.genes) for cell in tracer.encode(rows)]
    found = []
    for asked in as_names(genes):
        upper = asked.strip().upper()
        guesses = (upper, ALIASES.get(upper, ""), bare.get(_bare(upper), ""))
        name = next((one for one in guesses if one in symbols), None)
        found.append(GenePresence(asked, name, sum(name in held for held in sentences), len(sentences)))
    return found


def _bare(name: str) -> str:
    return "".join(sign for sign in name if sign.isalnum())


def near_names(tracer: Tracer, gene: str) -> list[str]:
    """At most three symbols of the table that are spelled nearly like it."""
    return difflib.get_close_matches(gene.upper(), [str(name) for name in tracer.table.symbols], 3, 0.75)


class GeneEdit(NamedTuple):
    """One gene alone. `effect`: change of the label's log-odds (nats) by the edit, mean over all cells with
    95% interval; p that it is 0 (signs turned, or t over donors), q over all genes and both edits."""

    gene: str
    held: int
    effect: MeanInterval
    p: float
    q: float | None = None


class ListEdit(NamedTuple):
    """A list edited at once: `effect`, that of `draws` random lists of the same ranks (`random`, its least
    and most), `ahead` the difference by cell with its p, q over all lists and edits; `alone`: each gene."""

    name: str
    does: str
    genes: tuple[str, ...]
    held: float
    effect: MeanInterval
    random: MeanInterval
    random_least: float
    random_most: float
    ahead: MeanInterval
    p: float
    alone: tuple[GeneEdit, ...]
    q: float | None = None


@shown
class GeneLists(NamedTuple):
    """What editing lists of genes does in n cells of a type. `absent`: what is said of genes that are not
    edited, or that no sentence holds; `before`: the label's log-odds."""

    label: str
    answer: str
    n: int
    units: str
    before: MeanInterval
    edits: tuple[ListEdit, ...]
    absent: tuple[tuple[str, str], ...]
    rows: tuple[int, ...]
    draws: int
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(one.name for one in self.edits))
        return f"<GeneLists of {self.label!r}: {names[:80]}; {counted(self.n, 'cell')}>"

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        edits = [
            one._asdict()
            | {name: getattr(one, name)._asdict() for name in ("effect", "random", "ahead")}
            | {"alone": [gene._asdict() | {"effect": gene.effect._asdict()} for gene in one.alone]}
            for one in self.edits
        ]
        return self._asdict() | {"before": self.before._asdict(), "edits": edits}


def edit_gene_lists(
    tracer: Tracer,
    label: str,
    lists: Mapping[str, Sequence[str]],
    *,
    answer: str | None = None,
    rows: Sequence[int] | None = None,
    cfg: GeneListConfig = GENE_LISTS,
    progress: Progress = silent,
) -> GeneLists:
    """Knock out and over-express every list at once and its genes alone, in cells of a type.

    Genes are found by their symbol, another spelling or a common other name; what is not found is said in
    `absent`. Raises ScxError when the table has no gene of any list.
    """
    drawn = tracer.draw(label, ConsensusConfig(cells=cfg.cells, seed=cfg.seed)) if rows is None else rows
    rows = np.asarray(drawn).tolist()
    answer = answer or tracer.answer_for(label)
    sampling = one_group(len(rows), cfg.seed, tracer.donors(rows))
    known, absent = _found(tracer, {name: as_names(genes) for name, genes in lists.items()}, rows)
    places = mean_places(tracer, rows)
    edits, before_C = [], np.zeros(0)
    for done, (name, presences) in enumerate(known.items()):
        for does in DOES:
            progress(2 * done + list(DOES).index(does), 2 * len(known), f"{name}: {does}")
            one, before_C = _edited(tracer, rows, answer, name, does, presences, places, sampling, cfg)
            edits.append(one)
    about = tracer.about({"gene_lists": to_dict(cfg)}, seed=cfg.seed, intervals=sampling.note)
    return GeneLists(
        label, answer, len(rows), sampling.kind, mean_interval(before_C, sampling), tuple(_with_q(edits)),
        tuple(absent.items()), tuple(rows), cfg.draws, about,
    )  # fmt: skip


def _found(
    tracer: Tracer, lists: Mapping[str, Sequence[str]], rows: Sequence[int]
) -> tuple[dict[str, list[GenePresence]], dict[str, str]]:
    """Genes of each list that the table has, each once; and words on those that it lacks or no cell holds."""
    known: dict[str, list[GenePresence]] = {}
    absent: dict[str, str] = {}
    for name, genes in lists.items():
        by_symbol: dict[str, GenePresence] = {}
        for one in find_genes(tracer, genes, rows):
            if one.found is None:
                near = near_names(tracer, one.asked)
                absent[one.asked] = one.words + (f"; did you mean {', '.join(near)}?" if near else "")
                continue
            by_symbol.setdefault(one.found, one)
            if not one.held or one.found != one.asked:
                absent[one.asked] = one.words
        if by_symbol:
            known[name] = list(by_symbol.values())
    if not known:
        first, words = next(iter(absent.items()), ("no gene", "given"))
        raise ScxError(
            f"{tracer.table.name} has none of these genes: {first[:40]} is {words.rstrip('?')}.",
            "Give symbols of the file's genes.",
        )
    return known, absent


def mean_places(tracer: Tracer, rows: Sequence[int]) -> dict[str, float]:
    """Mean rank of every gene over the cells whose sentence holds it."""
    ranks: dict[str, list[int]] = {}
    for cell in tracer.encode(rows):
        for place, gene in enumerate(cell.genes, 1):
            ranks.setdefault(str(gene), []).append(place)
    return {gene: float(np.mean(found)) for gene, found in ranks.items()}


def _edited(
    tracer: Tracer,
    rows: Sequence[int],
    answer: str,
    name: str,
    does: str,
    presences: Sequence[GenePresence],
    places: dict[str, float],
    sampling: Sampling,
    cfg: GeneListConfig,
) -> tuple[ListEdit, np.ndarray]:
    """One list and one edit, with its genes alone and random lists; and the log-odds before, [C]."""
    rng = np.random.default_rng(cfg.seed)
    genes = [str(one.found) for one in presences]
    alone = [one for one in presences if one.held or does == "over-expression"][: cfg.most]
    random = [rank_matched(places, genes, rng) for _ in range(cfg.draws)]
    sets = [genes, *random, *([str(one.found)] for one in alone)]
    found = joint_drops(tracer, rows, answer, sets, DOES[does])
    change_SC = -found.drop_SC
    own_C, random_DC, alone_GC = np.split(change_SC, [1, 1 + cfg.draws])
    gap_C = own_C[0] - random_DC.mean(0)
    p_G = p_values(sampling, alone_GC.T, cfg.seed) if len(alone) else np.zeros(0)
    each = tuple(
        GeneEdit(str(one.found), one.held, mean_interval(value_C, sampling), float(p))
        for one, value_C, p in zip(alone, alone_GC, p_G, strict=True)
    )
    return ListEdit(
        name,
        does,
        tuple(genes),
        float(found.held_SC[0].mean()),
        mean_interval(own_C[0], sampling),
        mean_interval(random_DC.mean(0), sampling),
        float(random_DC.mean(1).min()),
        float(random_DC.mean(1).max()),
        mean_interval(gap_C, sampling),
        float(p_values(sampling, gap_C[:, None], cfg.seed)[0]),
        each,
    ), found.before_C


def _with_q(edits: Sequence[ListEdit]) -> list[ListEdit]:
    """q over all lists, and over all genes alone."""
    q_list = q_values(np.array([one.p for one in edits])).tolist()
    q_gene = iter(q_values(np.array([gene.p for one in edits for gene in one.alone])).tolist())
    return [
        one._replace(q=q, alone=tuple(gene._replace(q=next(q_gene)) for gene in one.alone))
        for one, q in zip(edits, q_list, strict=True)
    ]
