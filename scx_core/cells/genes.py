"""Gene names: what kind of names a column holds, where the symbols are, and how equal ones are merged."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..errors import ScxError
from .choices import Finding, did_you_mean

SYMBOL_COLUMNS = (
    "feature_name", "gene_symbols", "gene_symbol", "gene_name-new", "gene_name", "gene_names", "symbol",
    "symbols", "hgnc_symbol", "gene_short_name", "external_gene_name", "genesymbol", "genename", "gene",
    "name",
)  # fmt: skip
_ENSEMBL = re.compile(r"(?:ENS[A-Z]*G|FBGN|WBGENE)\d{6,}(?:\.\d+)?(?:_PAR_Y)?", re.IGNORECASE)
_OTHER_ID = re.compile(
    r"(?:[NX][MR]_\d+(?:\.\d+)?|\d+_(?:[a-z]_)?at|ILMN_\d+|[OPQ]\d[A-Z\d]{3}\d|ENS[A-Z]*T\d{6,}(?:\.\d+)?)"
)
_BARCODE = re.compile(r"(?:[\w.]*[_:#-])?[ACGT]{10,}(?:[-_.]\w+)*")
_PATTERNS = {
    "ensembl": _ENSEMBL,
    "number": re.compile(r"\d+(?:\.0)?"),
    "barcode": _BARCODE,
    "other-id": _OTHER_ID,
}
# Families that every human or mouse gene list has: enough to tell gene names from cell names.
_FAMILY = re.compile(
    r"(?:RP[LS]\d+[AXLY]?\d*|MT-(?:ND|CO|ATP|CYB)\w*|HLA-\w+|CD\d+[A-Z]?|EIF\d\w+|PSM[A-D]\d+|NDUF[ABSV]\d+"
    r"|COX\d\w+|UBE2\w+|ZNF\d+|SLC\d+A\d+|LINC\d+|TMEM\d+\w?|FAM\d+[A-Z]\w*|KRT\d+|COL\d+A\d+|IL\d+\w*|CCL\d+"
    r"|CXCL\d+|S100A\d+|ATP\d\w+|DNAJ[ABC]\d+|HIST\d\w+|RAB\d+\w?|RBM\d+\w?|KIF\d+\w?|ACT[ABG]\d?|B2M|GAPDH|MALAT1)",
    re.IGNORECASE,
)
_SAMPLE = 4000
KIND_WORDS = {
    "ensembl": "Ensembl ids", "number": "bare numbers", "other-id": "transcript, probe or protein ids",
    "barcode": "cell barcodes", "empty": "mostly empty", "symbol": "gene symbols",
}  # fmt: skip


class GeneColumns(NamedTuple):
    """How the file's columns become genes. `target` [n_vars] gives each column's gene.

    `take_maximum`: columns of one gene are joined by their maximum, else summed.
    """

    n_genes: int
    target: np.ndarray
    take_maximum: bool = False

    def merge(self, x: sp.csr_matrix) -> sp.csr_matrix:
        """CSR [n, n_vars] to CSR [n, n_genes], sorted columns, no stored zeros."""
        out = x.copy() if self.n_genes == len(self.target) else self._merged(x)
        out.sum_duplicates()
        out.eliminate_zeros()
        return out

    def _merged(self, x: sp.csr_matrix) -> sp.csr_matrix:
        row = np.repeat(np.arange(x.shape[0], dtype=np.int64), np.diff(x.indptr))
        key = row * self.n_genes + self.target[x.indices]
        order = np.argsort(key, kind="stable")
        key, data = key[order], x.data[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        join = np.maximum if self.take_maximum else np.add
        data = join.reduceat(data, first) if len(first) else data
        row, column = np.divmod(key[first], self.n_genes)
        pointer = np.searchsorted(row, np.arange(x.shape[0] + 1))
        return sp.csr_matrix((data, column, pointer), shape=(x.shape[0], self.n_genes))


def unique_names(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct names in order of first appearance, and for each input the number of its name."""
    distinct, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return distinct[order], place[inverse]


def kind_of_names(names: pd.Index | pd.Series) -> str:
    """What most of some names are: a key of `KIND_WORDS`."""
    some = _some(names)
    filled = [name for name in some if name]
    if len(filled) < 0.5 * max(len(some), 1):
        return "empty"
    for kind, pattern in _PATTERNS.items():
        if np.mean([bool(pattern.fullmatch(name)) for name in filled]) >= 0.5:
            return kind
    return "symbol"


def family_share(names: pd.Index | pd.Series) -> float:
    """Share of names of well-known gene families: about 0.1 to 0.3 for genes, 0 for cells."""
    some = _some(names)
    return float(np.mean([bool(_FAMILY.fullmatch(name)) for name in some])) if some else 0.0


def _some(names: pd.Index | pd.Series) -> list[str]:
    step = max(1, len(names) // _SAMPLE)
    return clean_names(names[::step] if isinstance(names, pd.Index) else names.iloc[::step])


def _mostly_distinct(names: pd.Series) -> bool:
    some = _some(names)
    return len(set(some)) > 0.5 * len(some)


def clean_names(names: pd.Index | pd.Series) -> list[str]:
    """Names as text without outer blanks; missing ones as ""."""
    values = pd.Series(np.asarray(names, dtype=object))
    text = values.astype(str).str.strip()
    return text.mask(values.isna() | text.str.lower().isin({"nan", "none", "na", "n/a"}), "").tolist()


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


def symbol_places(var: pd.DataFrame) -> dict[str, str]:
    """The places where symbols could be ("index" and text columns of var), each with its kind of names."""
    kinds = {"index": kind_of_names(var.index)}
    for column in var.columns:
        if var[column].dtype.kind not in "biufc" and _mostly_distinct(var[column]):
            kinds[str(column)] = kind_of_names(var[column])
    return kinds


def find_symbols(var: pd.DataFrame, wanted: str | None, where: str) -> Finding:
    """Where the gene symbols are; `where` names the file and its table. ScxError when there are none."""
    if wanted is not None and wanted != "index" and wanted not in var.columns:
        known = ["index", *map(str, var.columns)]
        raise ScxError(f"{where} has no column '{wanted}' for gene symbols.", did_you_mean(wanted, known))
    kinds = symbol_places(var)
    good = [place for place, kind in kinds.items() if kind == "symbol"]
    if wanted is None:
        wanted = _best_place(good)
    if wanted is None:
        raise _no_symbols(kinds, var, where)
    kind = kinds[wanted] if wanted in kinds else kind_of_names(var[wanted])
    if kind in ("number", "empty"):
        raise ScxError(
            f"{where}: '{wanted}' holds {KIND_WORDS[kind]}, not gene symbols.",
            f"Choose {_listed(good)} as symbols."
            if good
            else "Add a column of gene symbols such as 'gene_symbol'.",
        )
    example = ", ".join(
        [name for name in clean_names(var.index if wanted == "index" else var[wanted]) if name][:3]
    )
    evidence = f"{KIND_WORDS[kind]} such as {example}"
    if wanted != "index":
        evidence += f"; the index holds {KIND_WORDS[kinds['index']]}"
    level = "ok" if kind == "symbol" else "warning"
    if level == "warning":
        evidence += ". A model that was trained on gene symbols does not know these names"
    return Finding("symbols", wanted, evidence, tuple(place for place in good if place != wanted), level)


def _best_place(good: list[str]) -> str | None:
    """The index if it holds symbols, else the column with the best-known name, else the only candidate."""
    if "index" in good:
        return "index"
    order = {name: place for place, name in enumerate(SYMBOL_COLUMNS)}
    named = [place for place in good if place.lower() in order]
    return min(named, key=lambda place: order[place.lower()]) if named else None


def _no_symbols(kinds: dict[str, str], var: pd.DataFrame, where: str) -> ScxError:
    others = [place for place, kind in kinds.items() if kind == "symbol"]
    remedy = (
        f"Choose the column with the symbols: {_listed(others)}."
        if others
        else "Add a column 'gene_symbol' to var with the gene symbols (such as CD19) and save the file again."
    )
    return ScxError(
        f"{where}: no gene symbols found. The index holds {KIND_WORDS[kinds['index']]} such as "
        f"'{var.index[0]}', and no column of var holds symbols under a known name.",
        remedy,
    )


def _listed(names: list[str]) -> str:
    return " or ".join(f"'{name}'" for name in names[:6])


def gene_names(var: pd.DataFrame, place: str) -> tuple[np.ndarray, int]:
    """Upper-case names [n_vars], and how many had no symbol and keep their id instead.

    The version is cut off an Ensembl id (ENSG00000141510.18), but not off a symbol: AC012345.1 is one.
    """
    ids = [_without_version(name) for name in clean_names(var.index)]
    if place == "index":
        return np.array([name.upper() for name in ids], dtype=object), 0
    names = [_without_version(name) for name in clean_names(var[place])]
    filled = [(name or fallback).upper() for name, fallback in zip(names, ids, strict=True)]
    return np.array(filled, dtype=object), sum(not name for name in names)


def _without_version(name: str) -> str:
    return name.split(".")[0] if _ENSEMBL.fullmatch(name) else name
