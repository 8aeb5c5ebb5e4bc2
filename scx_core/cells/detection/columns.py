"""Which columns of obs hold the cell types, the donors and the organism."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd

from scx_core.cells.choices import Finding, did_you_mean
from scx_core.errors import ScxError

from .name_rules import clean_text

# In order of preference. Names are compared in lower case with blanks, dots and dashes as underscores.
LABEL_NAMES = (
    "cell_type", "celltype", "cell_types", "celltypes", "cell_type_name", "author_cell_type",
    "bulk_labels", "labels", "label", "cell_label", "cell_type_label", "cell_annotation", "annotation",
    "annotations", "cell_ontology_class", "seurat_annotations", "majority_voting", "predicted_labels",
    "predicted_celltype", "celltype_l2", "celltype_l1", "cell_identity", "cell_state", "cell_states",
    "cell_subtype", "subtype", "cell_class", "class", "ident", "cluster_name", "clusters", "cluster",
    "seurat_clusters", "leiden", "louvain", "target", "perturbation",
)  # fmt: skip
_CLUSTERS = {"clusters", "cluster", "seurat_clusters", "leiden", "louvain"}
_PERTURBED = {"target", "perturbation"}
_LABEL_LIKE = re.compile(r"cell_?type|annot|label|cell_class|cell_state|subtype|identity")
_NO_LABEL = re.compile(r"ontology|_id$|source|score|prob|conf|color|colour")
DONOR_NAMES = (
    "donor", "donor_id", "donors", "donor_name", "individual", "individual_id", "patient", "patient_id",
    "subject", "subject_id", "participant", "person", "sample", "sample_id", "orig_ident", "library",
    "library_id", "batch",
)  # fmt: skip
_NOT_PERSONS = {"sample", "sample_id", "orig_ident", "library", "library_id", "batch"}
MISSING = {
    "", "nan", "na", "n/a", "none", "null", "unknown", "unlabelled", "unlabeled", "unassigned",
    "not assigned", "undefined", "undetermined", "<na>", "-", "?",
}  # fmt: skip
MOST_TYPES = 1000
FEW_SPELLINGS = 10  # ways to write a type; so many times as many values need not be tidied to be no grouping


def plain(name: str) -> str:
    """A column's name for comparison."""
    return re.sub(r"[\s.\-]+", "_", str(name).strip().lower())


def as_labels(column: pd.Series) -> np.ndarray:
    """Text labels, blanks and unicode tidied, "" where missing (empty, NaN, "unknown", "unlabelled", …)."""
    # Distinct values are few, cells many: only the distinct ones are turned into text.
    codes, distinct = pd.factorize(column)
    if column.dtype.kind == "f" and np.all(distinct % 1 == 0):
        distinct = pd.Index(distinct).astype(np.int64)
    text = [" ".join(name.split()) for name in clean_text(pd.Index(distinct))]
    table = np.array(["" if name.lower() in MISSING else name for name in text] + [""], dtype=object)
    return table[codes]


def label_problem(column: pd.Series) -> tuple[str, str]:
    """Why a column cannot serve as labels, and the remedy; ("", "") when it can."""
    if column.dtype.kind == "c":
        return "holds complex numbers, not cell types", "Choose a column of names or groups"
    if column.dtype.kind == "f" and not (column.dropna() % 1 == 0).all():
        return "holds continuous numbers, not cell types", "Choose a column of names or groups"
    n_values = column.nunique()
    if n_values > FEW_SPELLINGS * MOST_TYPES:
        return f"has {n_values:,} different values in {column.count():,} cells, so it is no grouping", (
            "Choose a column whose values are shared by many cells"
        )
    labels = as_labels(column)
    types = set(labels.tolist()) - {""}
    if not types:
        return f"is empty: all {len(labels):,} cells are unlabelled", "Choose another column or fill it"
    if len(types) == 1:
        only = next(iter(types))
        return f"has one type only ('{only}')", "A circuit contrasts types: choose a column with two or more"
    n_labelled = int((labels != "").sum())
    if len(types) > MOST_TYPES or (n_labelled > 100 and len(types) > 0.5 * n_labelled):
        return f"has {len(types):,} different values in {n_labelled:,} cells, so it is no grouping", (
            "Choose a column whose values are shared by many cells"
        )
    return "", ""


def find_labels(
    obs: pd.DataFrame, wanted: str | None, where: str, given: Sequence[str] = (), given_by: str = ""
) -> Finding:
    """The label column. `given`: columns that a labels file brought (`given_by`), which win over all others.
    ScxError naming the file, the columns and the remedy when there is none."""
    if wanted is None and given:
        found = find_labels(obs[list(given)], None, given_by) if len(given) > 1 else None
        name = found.choice if found else given[0]
        problem, remedy = label_problem(obs[name])
        if problem:
            raise ScxError(f"{given_by}: the column '{name}' {problem}.", f"{remedy}.")
        return _label_finding(obs, name, f"from {given_by}: ")
    if wanted is not None and wanted not in obs.columns:
        known = label_candidates(obs) or tuple(obs.columns)
        raise ScxError(f"{where} has no label column '{wanted}'.", did_you_mean(wanted, known))
    first_error = None
    for name in [wanted] if wanted is not None else _by_preference(obs):
        problem, remedy = label_problem(obs[name])
        if not problem:
            return _label_finding(obs, name, "chosen: " if wanted is not None else "")
        others = ", ".join(label_candidates(obs)[:6])
        remedy = f"{remedy} ({others})." if others else f"{remedy}."
        first_error = first_error or ScxError(f"{where}: the label column '{name}' {problem}.", remedy)
    if first_error is not None:
        raise first_error
    others = ", ".join(label_candidates(obs)[:8])
    raise ScxError(
        f"{where}: no column of cell-type labels found among {_columns(obs)}.",
        f"Choose the column that holds the cell types: {others}."
        if others
        else "Add a column 'cell_type' to obs, or give a labels file (CSV: cell id, cell_type).",
    )


def _columns(obs: pd.DataFrame) -> str:
    names = list(map(str, obs.columns))
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else "") if names else "no columns at all"


def _known(obs: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The columns under one of these names, in their order."""
    return sorted(
        (one for one in obs.columns if plain(one) in names), key=lambda one: names.index(plain(one))
    )


def _by_preference(obs: pd.DataFrame) -> list[str]:
    known = _known(obs, LABEL_NAMES)
    alike = [
        name for name in obs.columns
        if name not in known and _LABEL_LIKE.search(plain(name)) and not _NO_LABEL.search(plain(name))
    ]  # fmt: skip
    names = [name for name in known if plain(name) not in _CLUSTERS | _PERTURBED]
    return names + alike + [name for name in known if name not in names]


def label_candidates(obs: pd.DataFrame) -> tuple[str, ...]:
    """Columns that could serve as labels, likely ones first."""
    likely = _by_preference(obs)
    rest = [name for name in obs.columns if name not in likely]
    return tuple(name for name in likely + rest if not label_problem(obs[name])[0])


def _label_finding(obs: pd.DataFrame, name: str, how: str) -> Finding:
    labels = as_labels(obs[name])
    types, counts = np.unique(labels[labels != ""].astype(str), return_counts=True)
    least = int(counts.min())
    evidence = f"{how}{len(types)} types, the smallest with {least:,} cell" + ("" if least == 1 else "s")
    level = "ok"
    if n_missing := int((labels == "").sum()):
        evidence += f"; {n_missing:,} of {len(labels):,} cells are unlabelled and take no part in training"
        level = "note"
    if np.any(counts == 1):
        evidence += f"; types with a single cell, which cannot be held out: {int((counts == 1).sum())}"
        level = "note"
    if twins := _twins(types):
        evidence += f"; '{twins[0]}' and '{twins[1]}' differ only in spelling and count as two types"
        level = "note"
    if plain(name) in _CLUSTERS or obs[name].dtype.kind in "iuf":
        evidence += "; these are clusters by number, not named cell types"
        level = "warning"
    if plain(name) in _PERTURBED:
        evidence += "; these are perturbation targets, not cell types"
        level = "warning"
    others = tuple(other for other in label_candidates(obs) if other != name)
    return Finding("label", name, evidence, others, level)


def _twins(types: np.ndarray) -> tuple[str, str] | None:
    seen: dict[str, str] = {}
    for name in types.tolist():
        bare = unicodedata.normalize("NFKD", name.lower().replace("+", "pos"))
        key = re.sub(r"[\W_]+", "", "".join(c for c in bare if not unicodedata.combining(c)))
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None


def find_donors(obs: pd.DataFrame, wanted: str | None, where: str) -> Finding:
    """The donor column, or the choice "-" when there is none."""
    known = _known(obs, DONOR_NAMES)
    if wanted == "-":
        return Finding("donor", "-", "chosen: no donors", tuple(known))
    if wanted is not None and wanted not in obs.columns:
        raise ScxError(
            f"{where} has no donor column '{wanted}'.", did_you_mean(wanted, known or list(obs.columns))
        )
    name = wanted if wanted is not None else (known[0] if known else None)
    if name is None:
        evidence = "no column such as donor or patient: a split cannot keep donors apart"
        return Finding("donor", "-", evidence, label_candidates(obs), "note")
    donors = as_labels(obs[name])
    names = sorted(set(donors.tolist()) - {""})
    many = f"{len(names)} donor" + ("" if len(names) == 1 else "s")
    evidence = f"{many}: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}"
    level = "ok"
    if n_missing := int((donors == "").sum()):
        evidence += f"; unknown for {n_missing:,} cells"
        level = "note"
    if plain(name) in _NOT_PERSONS:
        evidence += f"; '{name}' may name samples or batches rather than persons"
        level = "note"
    if len(names) < 2:
        evidence += "; a split by donor needs two"
        level = "note"
    else:
        evidence += "; unless cells are split by donor, donors are shared between training and test"
    return Finding("donor", name, evidence, ("-", *(other for other in known if other != name)), level)
