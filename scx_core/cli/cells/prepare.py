"""`scx prepare`: is my file understood? What was found, the split, and the cell sentences."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.runs import (
    Progress,
    RunFolder,
    add_arguments,
    from_namespace,
    option,
    provenance,
    to_dict,
    write_json,
)
from scx_core.runs.files import replace_atomic, to_json_text

if TYPE_CHECKING:
    from scx_core.cells import CellTable
    from scx_core.language import Language
    from scx_core.sentences import SentenceConfig

HELP = "describe a file of cells, split it, and write its cell sentences"

SHOWN = 5  # raw answers in the text
BLOCK = 2048  # cells that are read and written at a time


@dataclass(frozen=True)
class SplitConfig:
    """How cells are divided."""

    held_out: float = option(0.1, "Share of the cells that test", minimum=0.001, maximum=0.999)
    choose: float = option(0.05, "Share of the cells that choose (0: none)", minimum=0.0, maximum=0.998)
    split_by: str = option(
        "stratified",
        "How they are drawn; donor keeps donors apart",
        choices=("stratified", "random", "donor"),
    )
    seed: int = option(0, "Seed of the split", minimum=0)


def options(parser: argparse.ArgumentParser) -> None:
    common.add_cells(parser)
    common.add_model(parser)
    parser.set_defaults(model=None)  # without one nothing is asked, and no model is loaded
    add_arguments(parser.add_argument_group("split"), SplitConfig, skip=("seed",))
    common.add_run(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Open, split, write; the result says what was found and where it lies."""
    from scx_core.cells import split_cells
    from scx_core.sentences import SentenceConfig, make_prompt

    split_config = from_namespace(SplitConfig, args)
    lm = None if args.model is None else common.open_language(args)
    sentences = from_namespace(SentenceConfig, args) if lm is None else lm.sentence_config
    make_prompt(sentences.prompt)  # a wrong template shows before the file is read
    table = common.open_table(args)
    read = None if lm is None else _reading(lm, table)
    split = split_cells(
        table, split_config.held_out, split_config.split_by, split_config.seed, split_config.choose
    )
    config = {
        "data": common.absolute(args.data),
        "cells": to_dict(table.choices),
        "split": to_dict(split_config),
        "sentences": to_dict(sentences),
    }
    record = provenance(config=config, data=table, model=lm, seed=split_config.seed)
    folder = RunFolder.create(args.runs, "prepare", config, args.name, provenance=record)
    write_json(folder.path / "split.json", split.to_json())
    n = _write_sentences(folder.path / "sentences.jsonl", table, split, sentences, common.progress_of(args))
    folder.write_status("done", n, n, "finished")
    return _result(table, split, folder, record, sentences) | ({} if read is None else {"reading": read})


def _reading(lm: Language, table: CellTable) -> dict[str, Any]:
    """What the model reads and answers: its terms, the prompt as sent, raw answers, the mapping of labels."""
    from scx_core.language import (
        map_labels,
        name_warnings,
        raw_answers,
        suggest_answers,
        terms_of,
        text_warnings,
    )

    raw = raw_answers(lm, table)
    mapped = map_labels(lm, table, table.given_answers)
    suggested = suggest_answers(lm, table, mapped) if any(not one.answer for one in mapped) else ()
    low, high = raw.interval
    return {
        "terms": dict(terms_of(lm)),
        "warnings": [*text_warnings(lm), *name_warnings(lm, table), *([raw.warning] if raw.warning else [])],
        "prompt": raw.prompt,
        "prompt_tokens": raw.tokens,
        "lead": raw.form.lead,
        "end": raw.form.end,
        "form": raw.form_words,
        "raw_answers": [one._asdict() for one in raw.answers],
        "parsed": {"k": raw.k, "n": raw.n, "low": low, "high": high, "words": raw.words},
        "right": raw.right_words,
        "mapping": [one._asdict() for one in mapped],
        "suggested": [one._asdict() | {"words": one.words} for one in suggested],
    }


def _write_sentences(
    path: Path, table: CellTable, split: Any, sentences: SentenceConfig, progress: Progress
) -> int:
    """One line a labelled cell, in the order of the file; returns how many."""
    import numpy as np

    from scx_core.sentences import gene_sentences

    rows = np.sort(np.concatenate([split.train, split.choose, split.held_out]))
    part_of = dict.fromkeys(split.held_out.tolist(), "held_out")
    part_of |= dict.fromkeys(split.choose.tolist(), "choose")

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                found = gene_sentences(table, block, sentences.n_genes, sentences.tie_seed)
                for row, genes in zip(block.tolist(), found, strict=True):
                    record = {
                        "row": row,
                        "cell": str(table.cell_ids[row]),
                        "label": str(table.labels[row]),
                        "part": part_of.get(row, "train"),
                        "sentence": " ".join(genes),
                    }
                    file.write(to_json_text(record) + "\n")
                progress(start + len(block), len(rows), "cell sentences")

    replace_atomic(path, write)
    return len(rows)


def _result(
    table: CellTable, split: Any, folder: RunFolder, record: dict[str, Any], sentences: SentenceConfig
) -> dict[str, Any]:
    import numpy as np

    from scx_core.cells.split import donors_in_words
    from scx_core.sentences import ties_of

    labelled = np.flatnonzero(table.labels != "")
    return {
        "data": table.name,
        "n_cells": table.n_cells,
        "n_genes": table.n_genes,
        "n_labelled": int((table.labels != "").sum()),
        "values_kind": table.values_kind,
        "organism": table.organism,
        "cells_per_type": {str(name): int(n) for name, n in table.cells_per_type().items()},
        "findings": [finding._asdict() for finding in table.findings],
        "split": {
            "by": split.by,
            "seed": split.seed,
            "train": len(split.train),
            "choose": len(split.choose),
            "words": split.words,
            "donors": donors_in_words(table, split),
            "held_out": len(split.held_out),
            "held_out_share": split.held_out_share,
        },
        "ties": ties_of(table, labelled, sentences.n_genes)._asdict(),
        "run": str(folder.path),
        "provenance": record,
    }


def summary(result: dict[str, Any]) -> str:
    """The findings as a check-list, the types, the split, and what ties decide."""
    from scx_core.sentences import Ties

    findings = result["findings"]
    marks = {"ok": "✓", "note": "·", "warning": "!"}
    lines = [f"{result['data']}: {result['n_cells']:,} cells × {result['n_genes']:,} genes"]
    lines += [
        f"  {marks[row['level']]} {row['topic']}: {row['choice']} – {row['evidence']}" for row in findings
    ]
    lines.append(common.columns(list(result["cells_per_type"].items()), ("cell type", "cells")))
    split = result["split"]
    lines.append(f"{split['words']} Drawn: {split['by']}. {split['donors']}")
    lines.append(Ties(**result["ties"]).words())
    if "reading" in result:
        lines.append(reading_words(result["reading"]))
    return "\n".join([*lines, f"Written to {result['run']}"])


def reading_words(read: dict[str, Any]) -> str:
    """What the model reads and answers, as text."""
    from scx_core.language import shortened

    lines = ["", "What the model reads and answers"]
    lines += [f"  {what}: {value}" for what, value in read["terms"].items()]
    lines += [f"  ! {warning}" for warning in read["warnings"]]
    lines += [f"Prompt as sent ({read['prompt_tokens']:,} tokens):", shortened(read["prompt"]), read["form"]]
    rows = [
        (
            one["cell"],
            one["label"],
            repr(one["text"]),
            one["ended"] or "not ended",
            one["parsed"] or "no label",
        )
        for one in read["raw_answers"][:SHOWN]
    ]
    lines.append(common.columns(rows, ("cell", "its type", "raw answer", "ended by", "read as")))
    lines += [read["parsed"]["words"], read["right"]]
    mapped = [(one["label"], one["answer"] or "none", one["why"]) for one in read["mapping"]]
    lines.append(common.columns(mapped, ("cell type", "answer of the model", "why")))
    without = [one["label"] for one in read["mapping"] if not one["answer"]]
    if without:
        lines.append(
            f"{len(without)} of {len(mapped)} types have no answer and are not scored: {', '.join(without)}. "
            "Give a mapping with --answers FILE."
        )
        found = [(one["label"], one["answer"] or "none", one["words"]) for one in read["suggested"]]
        lines.append(common.columns(found, ("cell type", "proposal, to be checked", "why")))
    return "\n".join(lines)
