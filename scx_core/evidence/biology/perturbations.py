"""Measured perturbations (Perturb-seq, CRISPRi) beside a model's in-silico knock-outs, target by target.

Measured, m: mean log-normalised expression of a gene in cells of a target less its mean in control cells,
with Welch's interval and test (cells are many; a screen of one line has no donors), q by Benjamini-Hochberg
over all targets and genes. In a targeted panel the normalisation is by the panel's sum, so that a change of
one strong gene moves all others a little.

In silico, s: what a language model over gene sentences expects differently without the target. In control
cells whose sentence holds it, the target is taken out, and at a fixed place behind it the model is asked
which gene comes next: log q(g) = log P(tokens of g | text so far), renormalised over the genes of the panel
that have not come yet, the target aside. s = log q(g) without the target less log q(g) with it, at `places`
places spread evenly from right behind the target to the end of the sentence, mean over places and cells
(nats). Above 0: expected earlier, that is higher, without it. A gene in front of the target has come already
and is not read in that cell. Both sentences are the same else. (A gene whose tokens begin another's name
includes it.)

The text is one gene shorter without the target, and a model that counts expects stronger genes at an earlier
place, whatever the target is. So the rank-matched change stands beside it: log q(g) without the target less
log q(g) without the gene right in front of it, in the same cells and places.

Beside it, for each target: co-expression in control cells (−Spearman with the target), mean expression
(−mean: what is high falls), and the mean measured change of all other targets, which has seen perturbed cells
and the model has not. Agreement with m over the genes but the target itself: Spearman, and the sign among
genes with q below 0.05. Against chance: targets' predictions held against other targets' measured changes
(permutations of targets, one-sided). How much could be found at all: the measured change of one half of the
cells against the other half (Spearman, Spearman-Brown): no prediction can be expected above its root.

Legend: T targets, G genes of the panel, C cells, P places, X permutations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from scx_core.cells import CellTable
from scx_core.cells.choices import did_you_mean
from scx_core.cells.differential import GeneMoments, log_expression, moments
from scx_core.errors import ScxError
from scx_core.language import Language, score_answers
from scx_core.runs.options import option
from scx_core.sentences import encode, gene_sentences
from scx_core.sentences.encode import AS_TEXT
from scx_core.statistics.hypothesis_tests import q_values
from scx_core.statistics.resampling import held_intervals, one_group


@dataclass(frozen=True)
class PerturbationConfig:
    """How many cells are read, and from how many cells a target counts."""

    cells: int = option(60, "Control cells that hold a target in which it is taken out, at most", minimum=2)
    places: int = option(4, "Places behind the target at which the model is asked what comes next", minimum=1)
    least: int = option(30, "Leave out targets with fewer cells", minimum=2)
    read_in: int = option(10, "Leave out genes that are read in fewer cells of a target", minimum=2)
    genes: int = option(300, "Genes of a large panel that are read, the most expressed", minimum=3)
    shuffles: int = option(2000, "Permutations of targets", minimum=100)
    seed: int = option(0, "Seed of draws, halves and permutations", minimum=0)


class Screen(NamedTuple):
    """Which cells are control, and which are of which target (rows, ascending)."""

    column: str
    control_label: str
    control: np.ndarray
    targets: dict[str, np.ndarray]


def open_screen(table: CellTable, column: str, control: str) -> Screen:
    """The rows of every target. Raises ScxError when the column or the control label does not exist."""
    if column not in table.obs.columns:
        raise ScxError(
            f"{table.name} has no column {column!r} of targets.",
            did_you_mean(column, [str(name) for name in table.obs.columns]),
        )
    value_C = table.obs[column].astype(str).to_numpy()
    names = sorted(set(value_C) - {"", "nan"})
    if control not in names:
        raise ScxError(
            f"The column {column!r} of {table.name} has no cells of the control label {control!r}.",
            did_you_mean(control, names),
        )
    rows = {name: np.flatnonzero(value_C == name) for name in names}
    own = rows.pop(control)
    if len(own) < 2 or not rows:
        raise ScxError(
            f"The column {column!r} of {table.name} has {len(own)} control cells and {len(rows)} targets.",
            "At least two control cells and one target are needed.",
        )
    return Screen(column, control, own, rows)


class MeasuredChanges(NamedTuple):
    """Measured change of every gene by every target [T, G] (log-normalised), its 95% interval, p and q."""

    targets: tuple[str, ...]
    genes: np.ndarray
    n_T: np.ndarray
    n_control: int
    change_TG: np.ndarray
    low_TG: np.ndarray
    high_TG: np.ndarray
    q_TG: np.ndarray
    left_T: np.ndarray
    reliability_T: np.ndarray


def measured_changes(table: CellTable, screen: Screen, cfg: PerturbationConfig) -> MeasuredChanges:
    """`left_T`: mean count (or value, delogged) of the target's own gene over that of control cells, nan
    where the target is no gene of the panel. `reliability_T`: agreement of two halves, Spearman-Brown."""
    names = tuple(name for name, rows in screen.targets.items() if len(rows) >= cfg.least)
    if not names:
        most = max(map(len, screen.targets.values()))
        raise ScxError(f"No target has {cfg.least} cells; the most is {most}.", "Lower --least.")
    symbols = table.symbols.astype(str)
    base = moments(table, screen.control)
    held = {name: moments(table, screen.targets[name]) for name in names}
    found = [_welch(held[name], base) for name in names]
    change_TG, low_TG, high_TG, p_TG = (np.array(part) for part in zip(*found, strict=True))
    q_TG = q_values(p_TG.ravel()).reshape(p_TG.shape)
    rng = np.random.default_rng([cfg.seed, 1])
    return MeasuredChanges(
        names,
        symbols,
        np.array([len(screen.targets[name]) for name in names]),
        len(screen.control),
        change_TG,
        low_TG,
        high_TG,
        q_TG,
        np.array([_left(table, screen, name) for name in names]),
        np.array([_reliability(table, screen, name, rng) for name in names]),
    )


def _welch(own: GeneMoments, base: GeneMoments) -> tuple[np.ndarray, ...]:
    """Difference of means, 95% interval and p of every gene (p = 1 where neither varies), [G] each."""
    part_G, rest_G = own.variance_G / own.n, base.variance_G / base.n
    error_G = np.sqrt(part_G + rest_G)
    flat_G = error_G <= 1e-12
    safe_G = np.where(flat_G, 1.0, error_G)
    df_G = safe_G**4 / np.where(flat_G, 1.0, part_G**2 / (own.n - 1) + rest_G**2 / (base.n - 1))
    change_G = own.mean_G - base.mean_G
    reach_G = stats.t.ppf(0.975, df_G) * error_G
    p_G = np.where(flat_G, 1.0, 2 * stats.t.sf(np.abs(change_G) / safe_G, df_G))
    return change_G, change_G - reach_G, change_G + reach_G, p_G


def _left(table: CellTable, screen: Screen, name: str) -> float:
    at = np.flatnonzero(table.symbols.astype(str) == name)
    if not len(at):
        return math.nan
    own, base = (
        float(np.expm1(log_expression(table, rows)[:, at].toarray()).mean())
        for rows in (screen.targets[name], screen.control)
    )
    return own / base if base > 0 else math.nan


def _reliability(table: CellTable, screen: Screen, name: str, rng: np.random.Generator) -> float:
    """Spearman of the changes in two halves of target and control cells (its own gene left out), brought to
    the whole by Spearman and Brown's formula; below 0 counts as 0."""
    halves = []
    own, base = rng.permutation(screen.targets[name]), rng.permutation(screen.control)
    for k in range(2):
        parts = [np.sort(rows[k::2]) for rows in (own, base)]
        halves.append(moments(table, parts[0]).mean_G - moments(table, parts[1]).mean_G)
    kept = table.symbols.astype(str) != name
    rho = max(0.0, spearman(halves[0][kept], halves[1][kept]))
    return 2 * rho / (1 + rho)


def spearman(first_G: np.ndarray, second_G: np.ndarray) -> float:
    """Spearman's rank correlation over what both have; nan for fewer than three or constant values."""
    both = np.isfinite(first_G) & np.isfinite(second_G)
    if both.sum() < 3:
        return math.nan
    a, b = (stats.rankdata(one[both]) for one in (first_G, second_G))
    if a.std() == 0 or b.std() == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


class Reading(NamedTuple):
    """In-silico changes by one target [G] (nats; nan: read in too few cells), intervals over cells, in how
    many cells each gene is read, and in how many the target was taken out of `asked` control cells;
    `matched_G`: rank-matched, less what another gene of that rank does."""

    change_G: np.ndarray
    matched_G: np.ndarray
    low_G: np.ndarray
    high_G: np.ndarray
    n_G: np.ndarray
    held: int
    asked: int


def panel(table: CellTable, screen: Screen, cfg: PerturbationConfig) -> np.ndarray:
    """Numbers of the genes that are read: all of a small panel, else the most expressed in control cells."""
    if table.n_genes <= cfg.genes:
        return np.arange(table.n_genes)
    return np.sort(np.argsort(-moments(table, screen.control).mean_G, kind="stable")[: cfg.genes])


def in_silico(
    lm: Language,
    table: CellTable,
    rows: np.ndarray,
    target: str,
    genes: np.ndarray,
    cfg: PerturbationConfig,
) -> Reading:
    """Take `target` out of the sentences of control cells (`rows`) and read genes (numbers of the table)."""
    sentences = gene_sentences(table, rows, lm.sentence_config.n_genes, lm.sentence_config.tie_seed)
    holding = [sentence for sentence in sentences if target in sentence[:-1]]
    symbols = table.symbols.astype(str)[genes]
    none_G = np.full(table.n_genes, math.nan)
    if not holding:
        return Reading(none_G, none_G, none_G, none_G, np.zeros(table.n_genes, int), 0, len(rows))
    value_C2G = np.array([_in_cell(lm, table, one, target, symbols, cfg) for one in holding[: cfg.cells]])
    value_CG = value_C2G[:, 0]
    n_G = np.isfinite(value_CG).sum(0)
    value_CG[:, n_G < cfg.read_in] = math.nan
    found = held_intervals(one_group(len(value_CG), cfg.seed), value_CG)
    matched_G = np.nansum(value_C2G[:, 1], 0) / np.maximum(np.isfinite(value_C2G[:, 1]).sum(0), 1)
    matched_G[np.isfinite(value_C2G[:, 1]).sum(0) < cfg.read_in] = math.nan
    out = [none_G.copy() for _ in range(4)]
    for whole_G, part_G in zip(out, (found[0], matched_G, *found[1:]), strict=True):
        whole_G[genes] = part_G
    count_G = np.zeros(table.n_genes, int)
    count_G[genes] = n_G
    return Reading(out[0], out[1], out[2], out[3], count_G, len(value_CG), len(rows))


def _in_cell(
    lm: Language,
    table: CellTable,
    sentence: list[str],
    target: str,
    symbols: np.ndarray,
    cfg: PerturbationConfig,
) -> np.ndarray:
    """Change of log q of every gene in one cell, as it is and rank-matched, mean over places, [2, G]; nan
    where it is read nowhere (rank-matched: also where no gene stands in front of the target)."""
    at = sentence.index(target) + 1
    ends = np.unique(np.linspace(at, len(sentence), cfg.places + 1).astype(int)[:-1])
    front = sentence[at - 2] if at > 1 else target
    texts = (sentence, *([gene for gene in sentence if gene != out] for out in (target, front)))
    cut = [_prefixes(lm, table, genes, ends - (k > 0)) for k, genes in enumerate(texts)]
    prompts = [ids for three in zip(*cut, strict=True) for ids in three]
    answers = [tuple(lm.tokenizer(f" {gene}", **AS_TEXT)["input_ids"]) for gene in symbols.tolist()]
    score_PXG = score_answers(lm, prompts, answers).sum(-1).reshape(len(ends), 3, len(symbols))
    change_P2G = np.full((len(ends), 2, len(symbols)), math.nan)
    for p, end in enumerate(ends.tolist()):
        left_G = ~np.isin(symbols, [*sentence[:end], target])
        log_q_XG = score_PXG[p][:, left_G]
        log_q_XG = log_q_XG - np.logaddexp.reduce(log_q_XG, axis=1, keepdims=True)
        change_P2G[p, 0, left_G] = log_q_XG[1] - log_q_XG[0]
        if front != target:
            change_P2G[p, 1, left_G] = log_q_XG[1] - log_q_XG[2]
    read_2G = np.isfinite(change_P2G).sum(0)
    return np.where(read_2G > 0, np.nansum(change_P2G, 0) / np.maximum(read_2G, 1), math.nan)


def _prefixes(
    lm: Language, table: CellTable, genes: Sequence[str], ends: np.ndarray
) -> list[tuple[int, ...]]:
    """Token ids of the prompt up to the end of its first `end` genes, for each end."""
    cell = encode(
        lm.tokenizer,
        lm.prompt,
        genes,
        organism=table.organism,
        num_genes=lm.sentence_config.n_genes,
        max_tokens=lm.facts.context - 1,
    )
    at = [min(end, len(cell.spans)) for end in ends.tolist()]
    return [cell.ids[: cell.spans[end - 1].end if end else cell.spans[0].start] for end in at]
