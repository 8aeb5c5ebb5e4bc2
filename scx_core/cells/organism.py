"""Which organism the cells are from: a column, a fact in the file, or the way the genes are written."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from ..errors import ScxError
from .choices import Finding, did_you_mean
from .columns import as_labels, plain
from .genes import clean_names, family_share

HUMAN, MOUSE = "Homo sapiens", "Mus musculus"
_COLUMNS = ("organism", "species", "organism_label", "organism_ontology_term_label", "feature_reference",
            "organism_ontology_term_id")  # fmt: skip
_WORDS = {
    "human": HUMAN, "homo sapiens": HUMAN, "hsapiens": HUMAN, "h. sapiens": HUMAN, "ncbitaxon:9606": HUMAN,
    "9606": HUMAN, "mouse": MOUSE, "mus musculus": MOUSE, "mmusculus": MOUSE, "m. musculus": MOUSE,
    "ncbitaxon:10090": MOUSE, "10090": MOUSE,
    "rat": "Rattus norvegicus", "ncbitaxon:10116": "Rattus norvegicus",
    "zebrafish": "Danio rerio", "ncbitaxon:7955": "Danio rerio",
}  # fmt: skip
_GENOMES = (
    ("grch", HUMAN), ("hg19", HUMAN), ("hg38", HUMAN), ("grcm", MOUSE), ("mm9", MOUSE), ("mm10", MOUSE),
    ("mm39", MOUSE), ("rnor", "Rattus norvegicus"), ("grcz", "Danio rerio"),
)  # fmt: skip
_ENSEMBL = {"ENSG": HUMAN, "ENSMUSG": MOUSE, "ENSRNOG": "Rattus norvegicus", "ENSDARG": "Danio rerio",
            "ENSMMUG": "Macaca mulatta", "ENSSSCG": "Sus scrofa"}  # fmt: skip
_TITLE = re.compile(r"[A-Z][a-z]+[a-z0-9]*(?:[-.]\w+)?")


def known_organism(words: str) -> str:
    """The scientific name for a common name, a taxon id or a genome; other words unchanged."""
    text = " ".join(str(words).split())
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return next((name for start, name in _GENOMES if text.lower().startswith(start)), text)


def find_organism(
    obs: pd.DataFrame,
    var: pd.DataFrame,
    symbols: pd.Series,
    hints: dict[str, str],
    wanted: str | None,
    where: str,
) -> Finding:
    """The organism's name as `choice`. `symbols` are the gene names before they were put in upper case."""
    if wanted is not None:
        return _chosen(obs, var, wanted, where)
    for table_name, table in (("obs", obs), ("var", var)):
        for column in table.columns:
            if plain(column) in _COLUMNS and (
                found := _from_column(table[column], f"{table_name} column '{column}'")
            ):
                return found
    for key, words in hints.items():
        return Finding("organism", known_organism(words), f"{key}: {words}", (HUMAN, MOUSE))
    return _from_genes(var, symbols)


def _chosen(obs: pd.DataFrame, var: pd.DataFrame, wanted: str, where: str) -> Finding:
    for table_name, table in (("obs", obs), ("var", var)):
        if wanted in table.columns:
            found = _from_column(table[wanted], f"chosen: {table_name} column '{wanted}'")
            if found:
                return found
            raise ScxError(
                f"{where}: the organism column '{wanted}' is empty.", "Type the organism's name instead."
            )
    if re.search(r"[_\d]", wanted) and known_organism(wanted) == wanted:
        known = [*map(str, obs.columns), *map(str, var.columns)]
        raise ScxError(f"{where} has no organism column '{wanted}'.", did_you_mean(wanted, known))
    return Finding("organism", known_organism(wanted), "chosen by name", (HUMAN, MOUSE))


def _from_column(column: pd.Series, where: str) -> Finding | None:
    values, counts = np.unique(as_labels(column).astype(str), return_counts=True)
    values, counts = values[values != ""], counts[values != ""]
    if not len(values):
        return None
    most = known_organism(str(values[np.argmax(counts)]))
    if len({known_organism(value) for value in values}) == 1:
        return Finding("organism", most, f"{where} says {values[0]}", (HUMAN, MOUSE))
    listed = ", ".join(f"{value} ({count:,})" for value, count in zip(values, counts, strict=True))
    evidence = f"{where} names several: {listed}. The most frequent goes into every prompt"
    return Finding("organism", most, evidence, (HUMAN, MOUSE), "warning")


def _from_genes(var: pd.DataFrame, symbols: pd.Series) -> Finding:
    ids = pd.Series(clean_names(var.index)[:4000]).str.extract(r"^(ENS[A-Z]*G)\d{6,}", expand=False).dropna()
    if len(ids) > 0.5 * min(len(var), 4000) and ids.mode()[0] in _ENSEMBL:
        name = _ENSEMBL[ids.mode()[0]]
        return Finding(
            "organism", name, f"Ensembl ids begin with {ids.mode()[0]}", (HUMAN, MOUSE), _level(name)
        )
    named = [name for name in clean_names(symbols) if re.search("[A-Za-z]{2}", name)][:4000]
    title = float(np.mean([bool(_TITLE.fullmatch(name)) for name in named])) if named else 0.0
    if title > 0.5:
        evidence = f"{title:.0%} of the symbols are written like mouse genes ('{named[0]}'); they are put in "
        evidence += "upper case, which makes most of them the names of their human counterparts, but not all"
        return Finding("organism", MOUSE, evidence, (HUMAN, "Rattus norvegicus"), "note")
    if family_share(symbols) >= 0.05:
        return Finding(
            "organism", HUMAN, "no column says so; the symbols are written like human genes", (MOUSE,)
        )
    evidence = "nothing in the file says which organism this is: Homo sapiens is assumed"
    return Finding("organism", HUMAN, evidence, (MOUSE,), "note")


def _level(name: str) -> str:
    return "ok" if name == HUMAN else "note"
