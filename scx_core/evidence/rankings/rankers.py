"""Rankings of the genes of a cell type, each from the same cells: the circuit's, and who else could say it.

| name | ranks genes by |
|---|---|
| circuit | their frozen attribution in the replacement model, mean over the cells (what a circuit shows) |
| gradient | gradient × input of the real model, the same target and cells |
| estimated | their estimated knock-out in the real model: the slope on the way to a neutral gene |
| attention | what the positions that decide the answer look at: mean over heads, layers and cells |
| rollout | the same followed down all layers, half of each step staying where it is (attention rollout) |
| linear | their frozen attribution where a linear map stands in for each MLP: no features |
| t-test, wilcoxon | differential expression, the type's cells against those of the other types |
| expression | their mean place in the cell sentence (absent: behind the last) |
| logistic | weight for the type in a logistic regression on all types × mean expression in the type |
| pca | loading on the component of expression that tells the type from the others best |

Attention rollout: Abnar & Zuidema 2020, arXiv 2005.00928.

Legend: C cells, G genes of the table, B cells of a batch, T positions, d residual width, P components.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import ttest_ind

from scx_core.attribution.local_replacement_model import freeze_many
from scx_core.attribution.replacement_model import Replacement, replacement
from scx_core.attribution.target import TargetPlan
from scx_core.cells.differential import log_expression, moments, strongest, t_scores, wilcoxon_scores
from scx_core.circuits import Tracer
from scx_core.evidence.interventions import rest_of, target_values
from scx_core.evidence.knockouts.estimates import estimated
from scx_core.evidence.knockouts.measured_effects import Measurer
from scx_core.language import Language, positions, texts_with_gradients
from scx_core.runs.micro_batch import MicroBatch
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import EncodedCell, gene_sentences, pad_left
from scx_core.transcoders import Transcoder, TranscoderSet
from scx_core.validation.baselines import linear_maps

WORDS = {
    "circuit": "circuit (frozen attribution)",
    "gradient": "gradient × input, real model",
    "estimated": "estimated knock-out, real model",
    "linear": "frozen attribution, linear maps for MLPs",
    "attention": "mean attention from the answer",
    "rollout": "attention rollout from the answer",
    "t-test": "differential expression (t-test)",
    "wilcoxon": "differential expression (Wilcoxon)",
    "expression": "highest expression",
    "logistic": "logistic regression × expression",
    "pca": "loadings of a principal component",
    "random": "random genes of the circuit's ranks",
}
LINEAR_CELLS = 48  # cells over whose tokens the linear maps are fitted
COMPONENTS = 20  # principal components of which one is taken
LOGISTIC_STRENGTH = 0.1  # scikit-learn's C on standardised genes


class Halves(NamedTuple):
    """Rows of one half of every type, by label: what rankings are made from."""

    rows: dict[str, np.ndarray]

    def others(self, label: str) -> np.ndarray:
        """The rows of all other types."""
        return np.concatenate([held for name, held in self.rows.items() if name != label])


class Rankers:
    """Makes the rankings of any type from the same halves; what types share is made once."""

    def __init__(
        self, tracer: Tracer, halves: Halves, most: int, seed: int, against: Sequence[str] | None = None
    ) -> None:
        """`against`: the answers that the model's rankings hold the type against (default: all others). The
        rankings without a model compare with the types of `halves`, whatever it is."""
        self.tracer, self.halves, self.most, self.seed, self.against = tracer, halves, most, seed, against
        self._looked: tuple[tuple[str, str], dict[str, list[dict[str, float]]]] | None = None

    def traced_rows(self, label: str) -> np.ndarray:
        """The cells that model-based rankings look at: at most `most` of the type's half."""
        rows = self.halves.rows[label]
        if len(rows) <= self.most:
            return rows
        return np.sort(np.random.default_rng(self.seed).choice(rows, self.most, replace=False))

    def all(self, label: str, answer: str, progress: Progress = silent) -> dict[str, list[str]]:
        """Genes with a positive score by ranking, strongest first."""
        table, rows, others = self.tracer.table, self.halves.rows[label], self.halves.others(label)
        made: dict[str, Callable[[], list[str]]] = {
            "circuit": lambda: self.frozen(self.tracer, label, answer),
            "gradient": lambda: self.gradient(label, answer),
            "estimated": lambda: self.estimated(label, answer),
            "linear": lambda: self.frozen(self.linear, label, answer),
            "attention": lambda: by_mean(self.looked_at(label, answer)["attention"]),
            "rollout": lambda: by_mean(self.looked_at(label, answer)["rollout"]),
            "t-test": lambda: strongest(
                table.symbols, t_scores(moments(table, rows), moments(table, others))
            ),
            "wilcoxon": lambda: strongest(table.symbols, wilcoxon_scores(table, rows, others)),
            "expression": lambda: self.expression(label),
            "logistic": lambda: strongest(table.symbols, self.logistic_scores[label]),
            "pca": lambda: strongest(table.symbols, self.component_scores(label)),
        }
        found = {}
        for done, (name, make) in enumerate(made.items()):
            progress(done, len(made), f"{label}: {WORDS[name]}")
            found[name] = make()
        return found

    def frozen(self, tracer: Tracer, label: str, answer: str) -> list[str]:
        """By total effect in the frozen replacement model, mean over the cells (0 where a gene is absent)."""
        rows = self.traced_rows(label)
        return by_mean(
            [
                {gene.gene: gene.effect for gene in tracer.gene_effects(int(row), answer, self.against)}
                for row in rows
            ]
        )

    def gradient(self, label: str, answer: str) -> list[str]:
        """By gradient × input of the real model."""
        cells = self.tracer.encode(self.traced_rows(label))
        return by_mean(gradient_times_input(self.tracer.lm, self.tracer.plan(answer, self.against), cells))

    def estimated(self, label: str, answer: str) -> list[str]:
        """By the estimated knock-out of each gene."""
        measurer = Measurer(self.tracer, self.tracer.plan(answer, self.against))
        cells = []
        for row in self.traced_rows(label):
            sentence = measurer.editor.sentence(int(row))
            values_G = estimated(measurer, sentence)
            cells.append(dict(zip(sentence.cell.genes, values_G.tolist(), strict=True)))
        return by_mean(cells)

    @cached_property
    def linear(self) -> Tracer:
        """The tracer whose transcoders are linear maps."""
        rows = np.concatenate(list(self.halves.rows.values()))
        rows = rows[self.tracer.table.answers[rows] != ""]  # the maps are fitted on whole texts
        rng = np.random.default_rng(self.seed)
        return linear_tracer(
            self.tracer, np.sort(rng.choice(rows, min(LINEAR_CELLS, len(rows)), replace=False))
        )

    def expression(self, label: str) -> list[str]:
        """By mean place in the cell sentence."""
        place = self.places(label)
        return sorted(place, key=lambda gene: (place[gene], gene))

    def differential(self, label: str) -> dict[str, float]:
        """Each gene's Welch t of the type's half against the other types', without a model."""
        table, rows, others = self.tracer.table, self.halves.rows[label], self.halves.others(label)
        scores = t_scores(moments(table, rows), moments(table, others))
        return dict(zip(map(str, table.symbols), scores.tolist(), strict=True))

    def places(self, label: str) -> dict[str, float]:
        """The mean place of every gene in the sentences of the type's half, absent: one behind the last."""
        cfg = self.tracer.lm.sentence_config
        rows = self.halves.rows[label]
        return mean_places(gene_sentences(self.tracer.table, rows, cfg.n_genes, cfg.tie_seed), cfg.n_genes)

    def looked_at(self, label: str, answer: str) -> dict[str, list[dict[str, float]]]:
        """Attention and rollout of each traced cell's genes; the last label's are kept."""
        if self._looked is None or self._looked[0] != (label, answer):
            cells, plan = self.tracer.encode(self.traced_rows(label)), self.tracer.plan(answer, self.against)
            self._looked = (label, answer), attention_to_genes(self.tracer.rep, plan, cells)
        return self._looked[1]

    @cached_property
    def standardised(self) -> tuple[np.ndarray, np.ndarray]:
        """The type of every cell of the halves [C], and its log-normalised genes, standardised [C, G]."""
        from sklearn.preprocessing import StandardScaler

        halves = self.halves.rows
        names = np.repeat(list(halves), [len(rows) for rows in halves.values()])
        x_CG = log_expression(self.tracer.table, np.concatenate(list(halves.values()))).toarray()
        return names, StandardScaler().fit_transform(x_CG.astype(np.float64))

    @cached_property
    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """Principal components of the standardised genes: places of the cells [C, P], loadings [P, G]."""
        from sklearn.decomposition import PCA

        _, x_CG = self.standardised
        n = min(COMPONENTS, *(size - 1 for size in x_CG.shape))
        fitted = PCA(n, svd_solver="randomized", random_state=self.seed)
        return fitted.fit_transform(x_CG), fitted.components_

    def component_scores(self, label: str) -> np.ndarray:
        """Loadings on the component whose Welch's t between the type and the others is the furthest from 0,
        with the sign that raises the type, [G]."""
        names, (place_CP, loading_PG) = self.standardised[0], self.components
        own = names == label
        apart_P = ttest_ind(place_CP[own], place_CP[~own], equal_var=False).statistic
        best = int(np.abs(np.nan_to_num(apart_P)).argmax())
        return np.asarray(np.sign(apart_P[best]) * loading_PG[best])

    @cached_property
    def logistic_scores(self) -> dict[str, np.ndarray]:
        """Of each type: weight in the logistic regression × mean expression, of standardised genes, [G]."""
        from sklearn.linear_model import LogisticRegression

        names, x_CG = self.standardised
        fitted = LogisticRegression(C=LOGISTIC_STRENGTH, max_iter=1000).fit(x_CG, names)
        weight_KG, kinds = fitted.coef_, fitted.classes_.tolist()
        if len(kinds) == 2:  # one row of weights, for the second of the two
            weight_KG = np.concatenate([-weight_KG, weight_KG])
        return {str(kind): weight_KG[k] * x_CG[names == kind].mean(0) for k, kind in enumerate(kinds)}


def by_mean(cells: Sequence[dict[str, float]]) -> list[str]:
    """Genes with a positive mean over the cells, 0 where a gene is absent, strongest first."""
    sums: dict[str, float] = {}
    for cell in cells:
        for gene, effect in cell.items():
            sums[gene] = sums.get(gene, 0.0) + effect
    return sorted((gene for gene in sums if sums[gene] > 0), key=lambda gene: (-sums[gene], gene))


def mean_places(sentences: Sequence[Sequence[str]], n_genes: int) -> dict[str, float]:
    """The mean place of every gene that occurs, counted from 1; `n_genes` + 1 where it is absent."""
    saved: dict[str, float] = {}
    for sentence in sentences:
        for place, gene in enumerate(sentence, 1):
            saved[gene] = saved.get(gene, 0.0) + n_genes + 1 - place
    return {gene: n_genes + 1 - value / len(sentences) for gene, value in saved.items()}


def rank_matched(
    places: dict[str, float], genes: Sequence[str], rng: np.random.Generator, near: int = 20
) -> list[str]:
    """For each gene another one that stands about where it stands: drawn from the `near` nearest of the genes
    that are neither in `genes` nor drawn already."""
    free = {gene: place for gene, place in places.items() if gene not in set(genes)}
    drawn: list[str] = []
    for gene in genes:
        at = places.get(gene, max(places.values()))
        nearest = sorted(free, key=lambda other: (abs(free[other] - at), other))[:near]
        if not nearest:
            break
        drawn.append(str(rng.choice(nearest)))
        del free[drawn[-1]]
    return drawn


BATCH = 8


def gradient_times_input(
    lm: Language, plan: TargetPlan, cells: Sequence[EncodedCell]
) -> list[dict[str, float]]:
    """Each cell's genes with (d target / d embedding) · embedding of the real model, summed over a gene's
    tokens, in the unit of the target. No transcoder, nothing frozen."""

    def attempt(some: slice) -> list[dict[str, float]]:
        part = cells[some]
        rest_BK = rest_of(lm, plan, part)
        padded = pad_left([plan.prompt_ids(cell) for cell in part], lm.pad_id)
        ids_BT, mask_BT = (torch.from_numpy(array).to(lm.device) for array in padded)
        with torch.enable_grad():
            input_BTd = lm.model.get_input_embeddings()(ids_BT).detach().requires_grad_(True)
            logits_BJV = lm.model(
                inputs_embeds=input_BTd,
                attention_mask=mask_BT,
                position_ids=positions(mask_BT),
                use_cache=False,
                logits_to_keep=plan.n_logits,
            ).logits
            (slope_BTd,) = torch.autograd.grad(target_values(logits_BJV, plan, rest_BK).sum(), input_BTd)
        effect_BT = (slope_BTd * input_BTd.detach()).sum(-1).double().cpu().numpy()
        found = []
        for cell, effect_T in zip(part, effect_BT, strict=True):
            own_T = effect_T[len(effect_T) - len(cell.ids) - len(plan.forced) :]
            found.append({span.gene: float(own_T[span.start : span.end].sum()) for span in cell.spans})
        return found

    length = max((len(cell.ids) + len(plan.forced) for cell in cells), default=1)
    size = texts_with_gradients(lm.facts, lm.device, length, BATCH)
    return [one for part in MicroBatch().pieces(attempt, len(cells), size) for one in part]


def attention_to_genes(
    rep: Replacement, plan: TargetPlan, cells: Sequence[EncodedCell]
) -> dict[str, list[dict[str, float]]]:
    """Each cell's genes by what the positions look at whose logits the target reads, summed over a gene's
    tokens: `attention`, the mean over heads and layers; `rollout`, all layers one behind the other, each
    (mean over heads + identity) / 2."""
    found: dict[str, list[dict[str, float]]] = {"attention": [], "rollout": []}
    prompts = [plan.prompt_ids(cell) for cell in cells]
    for cell, frozen in zip(cells, freeze_many(rep, prompts, plan.n_logits), strict=True):
        mean_LTT = torch.stack([layer.pattern_HTT.mean(0) for layer in frozen.layers])
        rolled_TT = eye_TT = torch.eye(frozen.n_positions, dtype=mean_LTT.dtype, device=mean_LTT.device)
        for mean_TT in mean_LTT:
            rolled_TT = (mean_TT + eye_TT) / 2 @ rolled_TT
        for name, looked_TT in (("attention", mean_LTT.mean(0)), ("rollout", rolled_TT)):
            own_T = looked_TT[-plan.n_logits :].mean(0).double().cpu().numpy()
            found[name].append({span.gene: float(own_T[span.start : span.end].sum()) for span in cell.spans})
    return found


def linear_tracer(tracer: Tracer, rows: np.ndarray) -> Tracer:
    """The tracer with the least-squares linear map of every MLP, over all tokens of these labelled cells, in
    the place of its transcoders: the stand-in without features. Each is a transcoder with a skip term and no
    active feature, so that all that traces transcoders traces it too."""
    lm, made = tracer.lm, []
    for one in linear_maps(lm, tracer.table, rows):
        assert one.W_dd is not None  # a map was fitted, no constant
        W_dd, b_d = one.W_dd.to(lm.device, lm.dtype), one.b_d.to(lm.device, lm.dtype)
        none_1d, closed_1 = torch.zeros_like(b_d)[None], torch.full_like(b_d[:1], -1.0)
        made.append(Transcoder(none_1d, closed_1, none_1d, b_d, W_dd))
    coders = TranscoderSet(tuple(made), {"name": "linear maps"})
    return replace(tracer, transcoders=coders, rep=replacement(lm, coders))
