"""The model card: data, licence, seed, split, metrics; the same table that the build prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scx_core.build.config import BuildConfig
from scx_core.cells import PLANTED, RULES, CellTable, Split
from scx_core.claims.of_model import validation_claims
from scx_core.display import as_markdown
from scx_core.language import Language
from scx_core.validation import BASELINES, PAPER
from scx_core.validation.baselines import LINEAR, TOKEN_LINEAR
from scx_core.validation.result import from_json

ROWS = (
    ("CE, original model (nats a token)", "ce_orig", 4),
    ("CE, transcoders", "ce_transcoder", 4),
    ("CE, MLPs at their mean", "ce_mean", 4),
    ("CE, no MLPs", "ce_zero", 4),
    ("CE recovered", "ce_recovered", 4),
    ("KL (nats a token)", "kl", 4),
    ("L0 (active features a token and layer)", "l0", 2),
    ("FVU (mean of the layers)", "fvu", 4),
    ("Dead features (share)", "dead", 4),
    ("Label accuracy, original", "label_accuracy_orig", 3),
    ("Label accuracy, transcoders", "label_accuracy_transcoder", 3),
    ("Balanced accuracy, original", "balanced_accuracy_orig", 3),
    ("Balanced accuracy, transcoders", "balanced_accuracy_transcoder", 3),
    ("Label agreement", "label_agreement", 3),
)
BESIDE = ("ce_recovered", "kl", "label_accuracy", "label_agreement")
EMBEDDED_DATA = """700 peripheral blood cells × 765 genes, `scanpy.datasets.pbmc68k_reduced()`, which ships
inside the scanpy package (BSD-3-Clause). The cells are a sample of the 68k PBMC data of Zheng et al. 2017,
*Massively parallel digital transcriptional profiling of single cells*, Nat Commun 8:14049
(doi 10.1038/ncomms14049), published by 10x Genomics under CC BY 4.0. Labels: `obs.bulk_labels`, by
correlation with sorted bulk populations; the T-cell subtypes are uncertain, so no model can be right about
all of them."""
_RULE_WORDS = "\n".join(f"- {rule.name}: {rule.words} ({', '.join(rule.genes)})" for rule in RULES)
PLANTED_DATA = f"""Simulated cells, made by `scx_core/cells/planted.py` at each opening: no biology in them.
Each cell belongs to one rule and is on or off by its truth table:

{_RULE_WORDS}

A passenger gene goes with each label in most cells and decides nothing; the other genes are noise. Attention
patterns are a plain mean, so that whatever combines genes lies in the MLPs."""
LICENCE_TAG = "license: bsd-3-clause\n"
OWN_LICENCE = (
    "The code that trained it is BSD-3-Clause. What may be done with the weights depends on the cells."
)


def metrics_table(figures: dict[str, Any], presets: tuple[str, ...]) -> str:
    """The figures of each preset side by side, the seed paper's beside them, as Markdown."""
    lines = [
        f"| test cells | {' | '.join(presets)} | seed paper (C2S-Pythia-410m, heart) |",
        "|" + "---|" * (len(presets) + 2),
    ]
    for words, key, digits in ROWS:
        values = [
            f"{figures[preset][key]:.{digits}f}{_span(figures[preset].get('intervals', {}).get(key), digits)}"
            for preset in presets
        ]
        paper = PAPER.get(key)
        lines.append(f"| {words} | {' | '.join(values)} | {'–' if paper is None else paper} |")
    return "\n".join(lines)


def baselines_table(figures: dict[str, Any], presets: tuple[str, ...]) -> str:
    """Every set beside what could do as well without features, as Markdown, and which sentences hold."""
    lines = [
        "| in place of the MLPs | CE recovered | KL | label accuracy | label agreement |",
        "|" + "---|" * 5,
    ]
    for preset in presets:
        found = figures[preset]
        spans = found["intervals"] | {"label_accuracy": found["intervals"]["label_accuracy_transcoder"]}
        own = found | {"label_accuracy": found["label_accuracy_transcoder"]}
        lines.append(f"| {preset} | {_cells(own, spans)} |")
        for row in found["baselines"]:
            whose = "" if row["key"] in (LINEAR, TOKEN_LINEAR) else f" ({preset})"
            line = f"| {BASELINES[row['key']]}{whose} | {_cells(row, row['intervals'])} |"
            if line not in lines:  # what is fitted to the model alone is the same beside every set
                lines.append(line)
    first = from_json(figures[presets[0]])
    lines += ["", f"Claims ({presets[0]}, n = {first.n_cells}):", ""]
    for claim in validation_claims(first):
        lines.append(
            f"- {claim.sentence} {'Holds' if claim.holds else 'Does not hold'}: {claim.figure:.3f}"
            f"{_span(claim.interval, 3)}, {claim.beside} {claim.baseline:.3f}."
        )
    return "\n".join(lines)


def _cells(row: dict[str, Any], spans: dict[str, Any]) -> str:
    return " | ".join(f"{row[key]:.4f}{_span(spans.get(key), 3)}" for key in BESIDE)


def _span(interval: Any, digits: int) -> str:
    """An interval in brackets, with a space in front; "" for none."""
    if interval is None:
        return ""
    low, high = interval.values() if isinstance(interval, dict) else interval
    return "" if low is None or low != low else f" [{low:.{digits}f}, {high:.{digits}f}]"


def _range(shares: Iterable[float]) -> str:
    found = sorted(shares)
    return f"{found[0]:.1%} to {found[-1]:.1%} (mean {sum(found) / len(found):.1%})"


def card(lm: Language, table: CellTable, split: Split, cfg: BuildConfig, figures: dict[str, Any]) -> str:
    """The README.md of a built model."""
    counts = ", ".join(f"{as_markdown(name)} {count}" for name, count in table.cells_per_type().items())
    recipe, sentences = cfg.recipe, cfg.sentences
    data = {"embedded": EMBEDDED_DATA, PLANTED: PLANTED_DATA}.get(
        cfg.data, f"{as_markdown(table.name)}: {table.n_cells:,} {table.unit}s × {table.n_genes:,} genes."
    )
    own = cfg.data not in ("embedded", PLANTED)
    rebuild = f"demo build --data {'CELLS' if own else cfg.data}"
    rebuild = rebuild.removesuffix(" --data embedded")
    install = "" if own else " --install"
    source = "the same cells (CELLS: their file)" if own else "the package data"
    parameters = sum(p.numel() for p in lm.model.parameters())
    return f"""---
{"" if own else LICENCE_TAG}library_name: transformers
tags: [single-cell, cell2sentence, gpt_neox, transcoders]
---
# {as_markdown(lm.name)}

A small model that reads a cell as its genes ranked by expression and answers with the cell type:
GPT-NeoX with {recipe.residual} residual, {recipe.layers} layers × {recipe.width}, {parameters:,} parameters,
byte-level BPE of {len(lm.tokenizer)} tokens, the top {sentences.n_genes} genes of a cell. It exists so that
circuits can be traced on a laptop; it is no tool for annotating cells.

## Data
{data}

Cells a type: {counts}.

## Split and seed
{cfg.split_by}, split seed {cfg.split_seed}: {split.words}
Figures come from the test cells ({split.held_out_share:.1%} of all) alone. Recipe seed {recipe.seed},
{recipe.readings:,} cells read in training, repeats counted; ties of equal expression ordered with seed
{sentences.tie_seed}. The split is kept in `scx.json`. Transcoders are trained on the same training cells.

## Metrics
All over the {figures["n_held_out"]} test cells, every MLP replaced at once, with 95% intervals: shares by
Wilson, others by bootstrap over {figures[cfg.preset_names[0]]["drawn_over"]}.

{metrics_table(figures, cfg.preset_names)}

### What could do as well without features
Linear maps and the table by token are fitted on training cells.

{baselines_table(figures, cfg.preset_names)}

Genes of equal expression have no order of their own. With five other tie seeds the model is right for
{_range(figures["tie_seeds"].values())} of the cells.

## Rebuild
`python -m scx_core {rebuild} --presets {cfg.presets}{install}` makes this folder and its transcoders
anew from {source} and prints this table.

## Licence
{OWN_LICENCE if own else "Weights and code: BSD-3-Clause."}
"""
