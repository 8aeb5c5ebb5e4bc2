"""What the numbers of a matrix are: counts, normalised, logged, scaled, or averages of many cells.

The kind decides how genes of one name are merged and what is reported to a user; the order of genes within a
cell, which is all that a cell sentence needs, is the same for counts and their logarithm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from scx_core.cells.matrix import RowMatrix
from scx_core.errors import ScxError

# Up to this many stored values a matrix is read through once; a larger one is sampled.
READ_ALL = 20_000_000
BLOCK_VALUES = 2_000_000
SAMPLED_BLOCKS = 16
SHAPE_ROWS = 400
# log1p of a normalised count stays below this in every common base (log2 of a million is 20).
LOG_CEILING = 25.0
# More molecules than this in one droplet is not credible: the "unit" is then rounding, not a count.
DEEPEST = 5e6
# Totals of cells that spread less than this are made equal: measured ones spread by tens of percent.
EQUAL_TOTALS = 0.02
# Rounding spreads equal totals, and squares of rounded square roots, up to this; those of counts spread by a
# quarter at least in each file that was looked at, their squares by half.
ROUNDED_TOTALS = 0.12
# Totals of few molecules spread so little by chance alone (100 by 10%), and few normalise to so few.
SAID_TOTAL = 1000
# Whole numbers of so many genes a cell of which none is above this are no counts: a few genes always are far
# higher (in 600 cells of each file that was looked at the largest count is 140 or more).
SMALL, MANY_GENES = 15, 200
# Nor are they with fewer genes, when hardly a value is 1, which is the commonest count.
SOME_GENES, FEW_ONES = 20, 0.25
# Fewer rows say nothing of how totals spread, or how large the largest value is.
ENOUGH_ROWS = 10
KINDS = (
    "counts", "non-integer counts", "log-normalised", "normalised", "averages", "scaled", "empty",
    "broken",
)  # fmt: skip
USABLE = KINDS[:5]


# Layers that hold some of the molecules only: of velocyto, STARsolo, kallisto, alevin, metabolic labelling.
_PART = re.compile(
    r"(?:un)?spliced|ambig(?:uous)?|nascent|mature|pre_?mrna|intron(?:ic|s)?|exon(?:ic|s)?|spanning|antisense"
    r"|(?:new|old|labell?ed|unlabell?ed|total_new)(?:_rna)?|multi_?mapp\w*|M[us]|velocity|variance\w*"
)
# A layer in which a cell has fewer genes than this share of what it has in X is a part of it.
WHOLE = 0.8


class MatrixKind(NamedTuple):
    """A matrix's kind with the evidence in plain words. `problem`: why it cannot be used, else "".

    `detected`: median number of genes above 0 a cell; `binary`: every value is 0 or 1, so nothing is ranked.
    """

    kind: str
    evidence: str
    problem: str = ""
    remedy: str = ""
    warning: str = ""
    detected: float = 0.0
    binary: bool = False


class RowStatistics(NamedTuple):
    """Statistics of some rows that tell kinds apart.

    `whole` share of non-zero values that are integers, `whole_rows` share of rows all of integers,
    `sum` median row sum, `sum_cv` its relative spread, `detected` median share of genes above 0,
    `unit` median share of values that are whole multiples of their row's smallest value; `squares` and
    `squares_cv` as `sum`, of the values' squares; `whole_squares` share of (nearly) integer squares;
    `distinct` median number of different values a row.
    """

    whole: float
    whole_rows: float
    sum: float
    sum_cv: float
    detected: float
    unit: float
    squares: float
    squares_cv: float
    whole_squares: float
    distinct: float


def describe_values(matrix: RowMatrix, rows_per_type: float | None = None) -> MatrixKind:
    """Kind of a matrix, from all rows or, above `READ_ALL` values, from blocks spread over it.

    `rows_per_type`: median number of rows that share a label, when labels are known; averages have few.
    """
    low, high, broken, seen, fractions = np.inf, -np.inf, 0, 0, 0
    kept: list[sp.csr_matrix] = []
    blocks = list(_blocks(matrix))
    for indices in blocks:
        block = matrix.rows(indices)
        finite = np.isfinite(block.data)
        broken += int((~finite).sum())
        seen += len(indices)
        if finite.any():
            low = min(low, float(block.data[finite].min()))
            high = max(high, float(block.data[finite].max()))
            fractions += int((block.data[finite] != np.rint(block.data[finite])).sum())
        filled = np.flatnonzero(np.diff(block.indptr))
        kept.append(block[filled[:: max(1, len(filled) * len(blocks) // SHAPE_ROWS)]])
    scope = "all" if seen == matrix.shape[0] else f"{seen:,} sampled"
    if broken:
        return MatrixKind(
            "broken",
            f"values that are NaN or infinite: {broken:,} ({scope} rows)",
            f"it holds values that are NaN or infinite: {broken:,}",
            "Replace them with 0 or remove these cells or genes",
        )
    if not np.isfinite(high) or high == low == 0:
        return MatrixKind(
            "empty",
            f"no value above 0 ({scope} rows)",
            "it holds no value other than 0",
            "Check that the right matrix was saved",
        )
    if low < 0:
        return MatrixKind(
            "scaled",
            f"values from {low:.3g} to {high:.3g} ({scope} rows): negative, so scaled or residuals",
            f"it holds negative values (smallest {low:.3g}), as after scaling, so it cannot rank genes",
            "Keep the counts or log-normalised values in raw or a layer",
        )
    x = sp.vstack(kept, format="csr")
    x.eliminate_zeros()
    detected = float(np.median(np.diff(x.indptr)))
    found = _positive(x, high, fractions, scope, rows_per_type)
    return found._replace(detected=detected, binary=fractions == 0 and high <= 1)


def _blocks(matrix: RowMatrix) -> Iterator[np.ndarray]:
    """Row numbers to read: everything in blocks, or blocks spread over a big matrix."""
    n = matrix.shape[0]
    if matrix.scans and matrix.n_stored > READ_ALL:
        yield np.unique(np.linspace(0, n - 1, SHAPE_ROWS).astype(int))
        return
    size = max(1, int(BLOCK_VALUES / max(matrix.n_stored / max(n, 1), 1)))
    starts = np.arange(0, n, size)
    if matrix.n_stored > READ_ALL and len(starts) > SAMPLED_BLOCKS:
        size = max(1, size // 4)
        starts = np.unique(np.linspace(0, n - size, SAMPLED_BLOCKS).astype(int))
    for start in starts.tolist():
        yield np.arange(start, min(start + size, n))


def _positive(
    x: sp.csr_matrix, high: float, fractions: int, scope: str, rows_per_type: float | None
) -> MatrixKind:
    """The kind of a matrix without negatives. `fractions`: how many of its values are not whole."""
    shape = shape_of(x)
    top = f"largest value {high:,.0f}" if high >= 1000 else f"largest value {high:.4g}"
    top += f", {scope} rows"
    if fractions == 0:
        return _whole(x, shape, high, top)
    base = log_base(x) if high <= LOG_CEILING else ""
    if not base and is_average(shape, high, rows_per_type):
        few = (
            f"; rows of one type: {rows_per_type:.0f} (median)"
            if rows_per_type and rows_per_type <= 2
            else ""
        )
        sums = f"every row sums to {shape.sum:,.0f}" if shape.sum_cv < 1e-3 else "sums differ"
        return MatrixKind(
            "averages",
            f"{sums}, {shape.whole:.2%} of the values are whole, they are no multiples of one unit "
            f"either, and a row has {shape.detected:.0%} of all genes{few}",
            warning="These rows are profiles, not cells: averages of many cells. Results describe them, "
            "not single cells, and statistics over cells do not apply.",
        )
    if base:
        return MatrixKind("log-normalised", f"{base} ({top})")
    if shape.unit > 0.95 or shape.sum_cv < 1e-3:
        how = (
            "whole multiples of one unit a cell"
            if shape.unit > 0.95
            else f"every cell sums to {shape.sum:,.0f}"
        )
        return MatrixKind("normalised", f"not whole, but {how}, and not logged ({top})")
    if root := _root(shape, len(x.indptr) - 1):
        return MatrixKind(
            "normalised", f"{root} ({top})", warning=f"{ORDER} Nothing needs to be done for them."
        )
    if high <= LOG_CEILING:
        return MatrixKind(
            "log-normalised",
            f"not whole and small, as after log1p ({top}); the base could not be confirmed",
            warning="Taken for log-normalised values because none is above "
            f"{LOG_CEILING:.0f}; check it if they are something else.",
        )
    return MatrixKind(
        "non-integer counts",
        f"{shape.whole:.0%} of the values are whole, {shape.whole_rows:.0%} of the cells all "
        f"whole ({top}): counts corrected or estimated in part",
        warning="Partly non-integer: corrected counts, or studies of different kinds in one file."
        if shape.whole >= PARTLY
        else "How these values were made could not be told: they are no counts, no logarithms or "
        "square roots of normalised counts, and no profiles. Choose counts or log-normalised values where "
        f"the file has them. {ORDER}",
    )


ORDER = "A cell sentence needs only the order of the genes within a cell, which such values keep."
# Fewer whole values than this are no counts that were corrected in part.
PARTLY = 0.05


def _whole(x: sp.csr_matrix, shape: RowStatistics, high: float, top: str) -> MatrixKind:
    """The kind of whole numbers: counts, or normalised values or logarithms that were rounded."""
    seen = f"whole numbers only ({top}; median sum {shape.sum:,.0f} a cell)"
    if high <= 1:
        return MatrixKind(
            "counts", seen, warning="Every value is 0 or 1, so the genes of a cell cannot be ranked."
        )
    detected, enough = float(np.median(np.diff(x.indptr))), len(x.indptr) > ENOUGH_ROWS
    ties = (
        f"a cell has {shape.distinct:,.0f} different values (median) for {detected:,.0f} genes, and genes of "
        "one value stand in an order drawn by the seed"
    )
    instead = "Choose the counts where the file has them (raw or a layer)"
    if enough and shape.sum_cv < EXACT_TOTALS:
        words = (
            f"Every cell's total is exactly {shape.sum:,.0f}: the cells were sampled down to one depth, or "
            "normalised. The order of the genes within a cell is that of the counts that are left."
        )
        return MatrixKind("counts", seen, warning=words)
    if enough and shape.sum_cv < EQUAL_TOTALS:
        words = (
            f"Every cell's total is near {shape.sum:,.0f} (they spread by {shape.sum_cv:.2%}), which counts "
            f"never are: normalised values, rounded. {ORDER} What is at stake are ties: {ties}. {instead}; "
            "else go on."
        )
        return MatrixKind("normalised", seen, warning=words)
    ones = float(np.mean(x.data == 1))
    if enough and high <= SMALL and (detected >= MANY_GENES or (detected >= SOME_GENES and ones < FEW_ONES)):
        words = (
            f"No value of any cell is above {high:.0f} although a cell has {detected:,.0f} genes, where "
            "a few genes of counts reach far more: logarithms or other values, rounded. A cell sentence "
            "needs only the order of the genes within a cell; what rounding costs are ties: "
            f"{ties}. {instead}; else read the later genes of a sentence as in no order."
        )
        return MatrixKind("log-normalised", seen, warning=words)
    if enough and shape.squares_cv < min(ROUNDED_TOTALS, shape.sum_cv):
        words = (
            f"The squares of a cell's values sum to about {shape.squares:,.0f} in every cell (they spread by "
            f"{shape.squares_cv:.0%}), which those of counts never do: square roots of normalised counts, "
            f"rounded. {ORDER} What is at stake are ties: {ties}. {instead}; else go on."
        )
        return MatrixKind("normalised", seen, warning=words)
    if enough and shape.sum_cv < ROUNDED_TOTALS and shape.sum >= SAID_TOTAL:
        words = (
            f"Every cell's total is near {shape.sum:,.0f} (they spread by {shape.sum_cv:.0%}; those of "
            "measured counts by a quarter or more): cells sampled to about one depth, or normalised values, "
            f"rounded. {ORDER} What is at stake are ties: {ties}. If they are rounded: "
            f"{instead[0].lower()}{instead[1:]}."
        )
        return MatrixKind("counts", seen, warning=words)
    return MatrixKind("counts", seen)


# Totals that spread less are equal to the last molecule.
EXACT_TOTALS = 1e-9


def _root(shape: RowStatistics, n_rows: int) -> str:
    """Evidence that values are square roots, of counts or of normalised ones; "" when it does not show."""
    if shape.whole_squares > 0.95:
        return "not whole, but their squares are: square roots of counts"
    if n_rows >= ENOUGH_ROWS and shape.squares_cv < EQUAL_TOTALS:
        return (
            f"not whole, and the squares of a cell's values sum to about {shape.squares:,.0f}: square roots "
            "of normalised counts"
        )
    return ""


def shape_of(x: sp.csr_matrix) -> RowStatistics:
    """Statistics of the rows of a CSR without negatives; empty rows are left out."""
    rows = [row[row > 0].astype(np.float64) for row in np.split(x.data, x.indptr[1:-1])]
    rows = [row for row in rows if len(row)]
    whole = [np.mean(row == np.round(row)) for row in rows]
    sums = np.array([row.sum() for row in rows])
    squares = np.array([(row**2).sum() for row in rows])
    powers = np.concatenate(rows) ** 2
    return RowStatistics(
        whole=float(np.average(whole, weights=[len(row) for row in rows])),
        whole_rows=float(np.mean(np.array(whole) == 1)),
        sum=float(np.median(sums)),
        sum_cv=float(sums.std() / sums.mean()) if len(sums) > 1 else 1.0,
        detected=float(np.median([len(row) for row in rows]) / x.shape[1]),
        unit=float(np.median([unit_share(row) for row in rows])),
        squares=float(np.median(squares)),
        squares_cv=float(squares.std() / squares.mean()) if len(squares) > 1 else 1.0,
        whole_squares=float(np.mean(np.abs(powers - np.rint(powers)) < 1e-3)),
        distinct=float(np.median([len(np.unique(row)) for row in rows])),
    )


def unit_share(row: np.ndarray) -> float:
    """Share of values that are whole multiples of the row's smallest, as scaled counts are; 0 when the
    implied number of molecules is beyond any cell, or hardly a value repeats the smallest."""
    smallest = row.min()
    multiple = row / smallest
    if multiple.sum() > DEEPEST or np.mean(multiple < 1.01) < 0.02:
        return 0.0
    return float(np.mean(np.abs(multiple - np.round(multiple)) <= 0.01 + 0.002 * multiple))


def log_base(x: sp.csr_matrix) -> str:
    """Evidence that x is log1p of normalised counts, in base e, 2 or 10; "" when it does not show."""
    for base, name in ((np.e, "e"), (2.0, "2"), (10.0, "10")):
        with np.errstate(over="ignore"):
            linear = np.power(base, x.data.astype(np.float64)) - 1
        if not np.isfinite(linear).all():
            continue
        shape = shape_of(sp.csr_matrix((linear, x.indices, x.indptr), shape=x.shape))
        if shape.sum_cv < 0.02 and len(x.indptr) > 3 and shape.sum > 50:
            return f"undoing log1p (base {name}) makes every cell sum to about {shape.sum:,.0f}"
        if shape.unit > 0.9 and shape_of(x).unit < 0.9:
            return f"undoing log1p (base {name}) gives whole multiples of one unit a cell"
    return ""


def is_average(shape: RowStatistics, high: float, rows_per_type: float | None) -> bool:
    """Averages have fractions that are no counts, most genes above 0, and equal sums or few rows a type."""
    if shape.whole > 0.5 or shape.unit > 0.95 or shape.detected < 0.5:
        return False
    few = rows_per_type is not None and rows_per_type <= 2
    return few or (shape.sum_cv < 1e-3 and high > LOG_CEILING)


def pick_values(found: dict[str, MatrixKind], n_genes: dict[str, int]) -> str:
    """The matrix to use among usable ones: nearly as many genes as the largest, a whole one before parts of
    it, one that ranks genes before 0 and 1, then the best kind."""
    usable = [name for name, values in found.items() if values.kind in USABLE]
    if not usable:
        problems = "; ".join(f"{name}: {values.problem}" for name, values in found.items())
        remedy = next(iter(values.remedy for values in found.values()), "")
        raise ScxError(f"No matrix can be used. {problems}.", f"{remedy}.")
    most = max(n_genes[name] for name in usable)
    wide = [name for name in usable if n_genes[name] >= 0.8 * most]
    parts = parts_of(found, wide)
    order = list(found)

    def preference(name: str) -> tuple[bool, bool, int, int]:
        return name in parts, found[name].binary, USABLE.index(found[name].kind), order.index(name)

    return min(wide, key=preference)


def parts_of(found: dict[str, MatrixKind], names: Sequence[str]) -> set[str]:
    """Which of some matrices hold a part of the molecules only: by their name (spliced, nascent, …), or since
    a cell has far fewer genes in them than in X (else raw, else the fullest of the others)."""
    named = {name for name in names if _PART.fullmatch(name.removeprefix("layers/").lower())}
    whole = [name for name in names if name not in named and found[name].kind in USABLE] or list(names)
    first = [name for name in ("X", "raw") if name in whole]
    reference = max(found[name].detected for name in (first or whole))
    return named | {name for name in names if found[name].detected < WHOLE * reference}
