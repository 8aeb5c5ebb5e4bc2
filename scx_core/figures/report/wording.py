"""Words of a report that are the same for every type: limits, methods, references."""

from __future__ import annotations

LIMITS = (
    "Frozen attribution accounts exactly for the model with attention, norms and active features held at "
    "their "
    "values; it is not what the model does when a gene is missing. Knock-outs in the real model are, and "
    "they stand "
    "beside it.",
    "A knock-out edits the text that the model reads. It is no perturbation of a cell.",
    "Genes that say the same can stand in for each other: single knock-outs understate what a group does, "
    "joint ones "
    "do not say which gene of it matters.",
    "Intervals are over the cells (or donors) of this data set. With one donor, or none known, they say "
    "nothing "
    "about other donors.",
    "Levels that were not tested are open, not passed.",
)
METHODS = (
    "Cells. The type's cells are split in two halves, by whole donors where two or more are known. The "
    "circuit and "
    "all rankings are made from cells of the first half; everything that judges them is measured in cells "
    "of the "
    "second.",
    "Circuit. Each cell's prompt is traced in the local replacement model (transcoders in the place of the "
    "MLPs; "
    "attention patterns, norms' scales and active features frozen), with direct edges, influence and "
    "pruning as in "
    "[1, 2]; the consensus keeps what enough cells share. Edges and bias add up to every node's value "
    "(level 1).",
    "Knock-outs. A gene is taken out of the sentence and the next ones move up, or a neutral gene with as "
    "many tokens "
    "takes its place; the original model answers, nothing frozen. Log-odds are of whole answers.",
    "Rivals. Gradient × input of the original model, differential expression (Welch's t, Wilcoxon), mean "
    "rank, "
    "logistic regression, frozen attribution through linear maps, attention, PCA loadings; and random genes "
    "of the "
    "same mean ranks.",
    "Sufficiency and necessity. In the original model with every MLP replaced, features outside (or inside) "
    "the "
    "circuit are set to their mean over cells of other types; share = (value − empty) / (full − empty), "
    "after MIB "
    "[3]. Random circuits have features of the same layers and of about the same activation mass.",
    "Statistics. 95% intervals by inverted permutation tests and bootstrap-t [4], over donors where two "
    "or more are known, else over cells, cut at what a share (0 and 1) or a rank correlation (−1 and 1) "
    "cannot leave; a kept share, a "
    "ratio of changes, can; paired sign-flip tests; Benjamini-Hochberg [5] within each family of tests; "
    "Wilson's intervals for shares of cells.",
)
REFERENCES = (
    "[1] Dunefsky, Chlenski, Nanda. Transcoders find interpretable LLM feature circuits. arXiv 2406.11944 "
    "(2024).",
    "[2] Ameisen et al. Circuit tracing: revealing computational graphs in language models. Transformer "
    "Circuits "
    "Thread (2025).",
    "[3] Mueller et al. MIB: a mechanistic interpretability benchmark. arXiv 2504.13151 (2025).",
    "[4] Efron, Tibshirani. An introduction to the bootstrap, ch. 12. Chapman & Hall (1993).",
    "[5] Benjamini, Hochberg. Controlling the false discovery rate. J. R. Stat. Soc. B 57, 289–300 (1995).",
    "[6] Transcoders on Cell2Sentence, the paper whose experiments scX starts from: arXiv 2509.14723 (2025).",
)
