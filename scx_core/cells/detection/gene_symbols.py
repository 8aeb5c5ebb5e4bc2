"""Gene names: what kind of names a column holds, where the symbols are, and how equal ones are merged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scx_core.cells.choices import Finding, did_you_mean
from scx_core.errors import ScxError

from .name_rules import (
    EMPTY,
    ENSEMBL_ID,
    JOINED,
    KIND_WORDS,
    NUMBER,
    NUMBERED,
    REPEATED,
    SYMBOL,
    Names,
    ensembl_of,
    family_share,
    is_written_like_symbol,
    kind_of_names,
    read_names,
    some,
)
from .organism import known_species, species_of_id

SYMBOL_COLUMNS = (
    "feature_name", "gene_symbols", "gene_symbol", "gene_name-new", "gene_name", "gene_names", "symbol",
    "symbols", "hgnc_symbol", "gene_short_name", "external_gene_name", "genesymbol", "genename", "gene",
    "name",
)  # fmt: skip
ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl_ids", "ensembl", "feature_id", "geneid", "id")
FEW_WRITTEN = 0.8  # fewer of the names written like symbols are worth a warning
FEW_KNOWN = 0.02  # of many names, fewer of well-known families are worth one
MANY = 500


# Values of a block from which on it is worth loading the compiled way, as more such blocks will follow.
WORTH_COMPILING = 2**18


@cache
def _compiled() -> Callable[..., None] | None:
    """Columns joined in machine code; None where numba cannot be imported."""
    try:
        from .joined_columns import join_rows
    except ImportError:
        return None
    return join_rows


class GeneColumns(NamedTuple):
    """How the file's columns become genes. `target` [n_vars] gives each column's gene.

    `take_maximum`: columns of one gene are joined by their maximum, else summed.
    """

    n_genes: int
    target: np.ndarray
    take_maximum: bool = False

    def merge(self, x: sp.csr_matrix) -> sp.csr_matrix:
        """CSR [n, n_vars] to CSR [n, n_genes], sorted columns, no stored zeros. `x` itself where it is so.

        The first column of every gene stands in the order of the genes (`unique_names`), so that only values
        in the few other ones have to find their places.
        """
        if not x.has_canonical_format:
            x = x.copy()
            x.sum_duplicates()
        if self.n_genes != len(self.target):
            x = self._merged(x)
        if np.count_nonzero(x.data) != x.nnz:
            x = x.copy()
            x.eliminate_zeros()
        return x

    def _merged(self, x: sp.csr_matrix) -> sp.csr_matrix:
        """Values of second and further columns are put to those of the first, or in between where there is
        none. Legend: N values of the matrix, M of first columns, E of the others."""
        gene = self.target.astype(np.int32)
        again = np.ones(len(gene), dtype=bool)
        again[np.unique(gene, return_index=True)[1]] = False
        gene_of = np.where(again, ~gene, gene)  # below 0 in the other columns
        if x.nnz >= WORTH_COMPILING and x.data.dtype == np.float32 and (join := _compiled()) is not None:
            return self._merged_at_once(x, gene_of, join)
        gene_N = gene_of[x.indices]
        at_E = np.flatnonzero(gene_N < 0)
        pointer = x.indptr - np.searchsorted(at_E, x.indptr).astype(x.indptr.dtype)
        row_E, gene_E = np.searchsorted(x.indptr, at_E, side="right") - 1, ~gene_N[at_E]
        order = np.lexsort((gene_E, row_E))  # stable: columns of one gene are joined in the file's order
        row_E, gene_E, value_E = row_E[order], gene_E[order], x.data[at_E[order]]
        data_M, gene_M = np.delete(x.data, at_E), np.delete(gene_N, at_E)

        join, nothing = (np.maximum, -np.inf) if self.take_maximum else (np.add, 0.0)
        place_E, there_E = _places(gene_M, pointer, row_E, gene_E)
        new = np.flatnonzero(~there_E)
        new = new[(np.diff(row_E[new], prepend=-1) != 0) | (np.diff(gene_E[new], prepend=-1) != 0)]
        data_M = np.insert(data_M, place_E[new], nothing)
        gene_M = np.insert(gene_M, place_E[new], gene_E[new])
        pointer = pointer + np.searchsorted(row_E[new], np.arange(len(pointer))).astype(pointer.dtype)
        join.at(data_M, _places(gene_M, pointer, row_E, gene_E)[0], value_E)
        return sp.csr_matrix((data_M, gene_M, pointer), shape=(x.shape[0], self.n_genes))

    def _merged_at_once(
        self, x: sp.csr_matrix, gene_of: np.ndarray, join: Callable[..., None]
    ) -> sp.csr_matrix:
        """The same, compiled."""
        data_N, gene_N, pointer = np.empty_like(x.data), np.empty(x.nnz, np.int32), np.zeros_like(x.indptr)
        columns, starts = x.indices.astype(np.int32, copy=False).view(np.uint32), x.indptr.astype(np.uint64)
        join(x.data, columns, starts, gene_of, self.take_maximum, data_N, gene_N, pointer)
        n = pointer[-1]
        return sp.csr_matrix((data_N[:n], gene_N[:n], pointer), shape=(x.shape[0], self.n_genes))


def _places(
    gene_M: np.ndarray, pointer: np.ndarray, row_E: np.ndarray, gene_E: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each (row, gene) the first place in that row whose gene is not before it, and whether it is it."""
    low, end = pointer[row_E], pointer[row_E + 1]
    high = end
    while (open_E := low < high).any():
        middle = (low + high) // 2
        before = open_E & (gene_M[np.minimum(middle, len(gene_M) - 1)] < gene_E)
        low, high = np.where(before, middle + 1, low), np.where(before, high, np.minimum(high, middle))
    there = low < end
    there[there] = gene_M[low[there]] == gene_E[there]
    return low, there


def unique_names(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct names in order of first appearance, and for each input the number of its name."""
    distinct, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return distinct[order], place[inverse]


def check_orientation(obs_names: pd.Index, var_names: pd.Index, name: str) -> None:
    """ScxError when the rows are genes and the columns cells."""
    rows, columns = kind_of_names(obs_names), kind_of_names(var_names)
    genes_in_rows = rows == "ensembl" or family_share(obs_names) >= 0.08
    if columns == "barcode" or (genes_in_rows and columns != "ensembl" and family_share(var_names) < 0.03):
        raise ScxError(
            f"{name}: the matrix is transposed: its rows (obs) look like genes ('{obs_names[0]}'), its "
            f"columns (var) like cells ('{var_names[0]}').",
            "Save the transpose (adata.T), so that obs are cells and var are genes.",
        )


class SymbolPlace(NamedTuple):
    """A place where symbols could be: "index" or a column of var, and what its names are."""

    name: str
    read: Names

    @property
    def rank(self) -> tuple[int, float]:
        """Less is better: pure symbols before those joined with ids, then the share of well-known ones."""
        return (0 if self.read.kind == SYMBOL else 1, -self.read.known)


def find_symbols(var: pd.DataFrame, wanted: str | None, where: str) -> Finding:
    """Where the gene symbols are; `where` names the file and its table. ScxError when there are none."""
    if wanted is not None and wanted != "index" and wanted not in var.columns:
        known = ["index", *map(str, var.columns)]
        raise ScxError(f"{where} has no column '{wanted}' for gene symbols.", did_you_mean(wanted, known))
    # the places where symbols could be ("index" and text columns of var) by name, from a sample of names
    places = {"index": SymbolPlace("index", read_names(some(var.index)))}
    for column in map(str, var.columns):
        if var[column].dtype.kind not in "biufc":
            places[column] = SymbolPlace(column, read_names(some(var[column])))
    good = [place for place in places.values() if place.read.kind in (SYMBOL, JOINED)]
    if wanted is None:
        wanted = _best_place(good)
    if wanted is None:
        raise _no_symbols(places, good, var, where)
    read = places[wanted].read if wanted in places else read_names(some(var[wanted]))
    if read.kind in (NUMBER, EMPTY, REPEATED):
        names = [place.name for place in good]
        raise ScxError(
            f"{where}: '{wanted}' holds {KIND_WORDS[read.kind]}, not gene symbols.",
            f"Choose {_listed(names)} as symbols."
            if names
            else "Add a column of gene symbols such as 'gene_symbol'.",
        )
    evidence, level = _symbols_in_words(read)
    if wanted != "index":
        evidence += f"; the index holds {KIND_WORDS[places['index'].read.kind]}"
    return Finding("symbols", wanted, evidence, tuple(p.name for p in good if p.name != wanted), level)


def _symbols_in_words(read: Names) -> tuple[str, str]:
    """What a place holds, with the share that looks like symbols, and the finding's level."""
    names = [name for name in read.symbol if name]
    evidence = f"{KIND_WORDS[read.kind]} such as {', '.join(names[:3])}"
    if read.kind not in (SYMBOL, JOINED):
        return evidence + ". A model that was trained on gene symbols does not know these names", "warning"
    evidence += f"; {read.written:.0%} are written like symbols, {read.known:.0%} are of well-known families"
    if read.written < FEW_WRITTEN:
        odd = ", ".join([name for name in names if not is_written_like_symbol(name)][:3])
        return evidence + f". The others, such as {odd}, are names that a model hardly knows", "warning"
    if len(names) >= MANY and read.known < FEW_KNOWN:
        return (
            evidence + ". Hardly any is a gene that every list has: check that these are gene symbols",
            "warning",
        )
    return evidence, "note" if read.repairs else "ok"


def _best_place(good: list[SymbolPlace]) -> str | None:
    """Pure symbols before joined ones; the index before columns, unless a column under a known name holds
    clearly more well-known genes; then the best-known column's name; else the only column of genes."""
    order = {name: number for number, name in enumerate(SYMBOL_COLUMNS)}
    best = min((place.rank[0] for place in good), default=0)
    pure = [place for place in good if place.rank[0] == best]
    named = sorted(
        (place for place in pure if place.name.lower() in order), key=lambda place: order[place.name.lower()]
    )
    index = next((place for place in pure if place.name == "index"), None)
    if index is not None and not any(_clearly_better(place.read, index.read) for place in named):
        return "index"
    if named:
        return named[0].name if index is None else max(named, key=lambda place: place.read.known).name
    unnamed = [place for place in pure if place.read.known >= 0.08]
    return unnamed[0].name if len(unnamed) == 1 else None


def _clearly_better(one: Names, other: Names) -> bool:
    return one.known > other.known + 0.05 or one.written > other.written + 0.2


def _no_symbols(
    places: dict[str, SymbolPlace], good: list[SymbolPlace], var: pd.DataFrame, where: str
) -> ScxError:
    remedy = (
        f"Choose the column with the symbols: {_listed([place.name for place in good])}."
        if good
        else "Add a column 'gene_symbol' to var with the gene symbols (such as CD19) and save the file again."
    )
    return ScxError(
        f"{where}: no gene symbols found. The index holds {KIND_WORDS[places['index'].read.kind]} such as "
        f"'{var.index[0]}', and no column of var holds symbols under a known name.",
        remedy,
    )


def _listed(names: list[str]) -> str:
    return " or ".join(f"'{name}'" for name in names[:6])


class NamedGenes(NamedTuple):
    """The columns of a matrix as genes. `symbol` [n]: upper case, "" for a column that is left out; `written`
    [n]: as the file writes it; `n_by_id` genes have no symbol and keep their id; `genome`: the one that was
    kept, "" where the file names none; `notes` and `warnings`: sentences about repairs and doubts."""

    symbol: np.ndarray
    written: list[str]
    n_by_id: int
    genome: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def named_genes(var: pd.DataFrame, place: str, genome: str | None = None, where: str = "var") -> NamedGenes:
    """The gene of every row of var: mended names, ids where a name is missing, one genome of several.

    Raises ScxError when there are genes of several genomes or species and none is chosen, or the chosen one
    is not there.
    """
    read = read_names(var.index if place == "index" else var[place])
    ids, id_genome = _ids(var, place)
    genomes = [own or other for own, other in zip(read.genome, id_genome, strict=True)]
    kept, keep = _one_genome(genomes, ids, genome, where)
    notes, warnings = list(read.repairs), list(read.doubts)
    names = ["" if converted else name for name, converted in zip(read.symbol, read.converted, strict=True)]
    if n_converted := int((read.converted & keep).sum()):
        examples = [
            name for name, converted in zip(read.symbol, read.converted & keep, strict=True) if converted
        ][:3]
        warnings.append(
            f"{n_converted:,} names are dates or numbers that a spreadsheet made of gene names (such as "
            f"{', '.join(examples)}): they cannot be turned back, and go by their id or are left out; give "
            "the table as it was before"
        )
    nameless = np.array([not name for name in names]) & keep
    filled = [name or fallback for name, fallback in zip(names, ids, strict=True)]
    left = nameless & np.array([not name for name in filled])
    if n_blank := int((left & ~read.converted).sum()):
        notes.append(f"{n_blank:,} genes have neither name nor id and are left out")
    if n_other := int((~keep).sum()):
        notes.append(f"genes of {kept} are kept, {n_other:,} of other genomes left out")
    symbol = np.array(
        [_without_version(name).upper() if k else "" for name, k in zip(filled, keep, strict=True)]
    )
    written = [name for name, k in zip(filled, keep, strict=True) if k and name]
    return NamedGenes(
        symbol.astype(object), written, int((nameless & ~left).sum()), kept, tuple(notes), tuple(warnings)
    )


def _ids(var: pd.DataFrame, place: str) -> tuple[list[str], list[str]]:
    """An id of each gene for where a name is missing, "" where there is none, and the genome in front of it:
    from the index where that is not the place of the symbols, else from a column of ids."""
    lower = {str(column).lower(): column for column in reversed(list(var.columns))}
    columns = [var[lower[name]] for name in ID_COLUMNS if name in lower and lower[name] != place]
    for values in ([] if place == "index" else [var.index]) + columns:
        read = read_names(values)
        if read.kind not in (REPEATED, EMPTY, NUMBER, NUMBERED):
            return read.symbol, read.genome
    return [""] * len(var), [""] * len(var)


def _one_genome(genomes: list[str], ids: list[str], wanted: str | None, where: str) -> tuple[str, np.ndarray]:
    """The genome to keep ("" when the names tell none) and which genes are of it, bool [n]."""
    stated = genomes if any(genomes) else [_species_of(one) for one in ids]
    counts = Counter(name for name in stated if name)
    n = max(1, len(stated))
    several = [name for name, count in counts.items() if count >= 0.01 * n]
    if wanted is None:
        if len(several) > 1:
            listed = ", ".join(f"{name} ({counts[name]:,})" for name in sorted(several))
            raise ScxError(
                f"{where}: the genes are of several genomes: {listed}.",
                f"Choose one: genome = {' or '.join(sorted(several))} (on the command line --genome).",
            )
        return "", np.ones(len(stated), dtype=bool)
    match = {name.lower(): name for name in counts} | {known_species(name).lower(): name for name in counts}
    name = match.get(wanted.lower(), match.get(known_species(wanted).lower()))
    if name is None:
        if not counts:
            problem = f"{where} does not say of which genome its genes are, so '{wanted}' cannot be chosen."
            raise ScxError(problem, "Leave the genome out.")
        raise ScxError(f"{where} has no genome '{wanted}'.", did_you_mean(wanted, sorted(counts)))
    return name, np.array([one == name or not one for one in stated])


def _species_of(name: str) -> str:
    """The species of an Ensembl id, "" for any other name."""
    found = re.match(r"ENS[A-Z]*?G(?=\d)", ensembl_of(name))
    return species_of_id(found.group(0)) if found else ""


def _without_version(name: str) -> str:
    """An id without its version (ENSG00000141510.18); a symbol keeps its own: AC012345.1 is one."""
    return ensembl_of(name) if ENSEMBL_ID.fullmatch(name) else name
