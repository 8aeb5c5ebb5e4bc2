"""Preprocessing in a notebook, in scanpy's manner: cells, their sentences, the model that reads them.

`import scx_core as scx`, then `scx.pp`, `scx.tl` (compute) and `scx.pl` (draw). These modules call the rooms
of the package. Cells may be given as an AnnData object in memory, a path, "embedded", or the CellTable that
`read_cells` makes of any of these, which is worth keeping where they are used twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from scx_core.cells import CellChoices, CellTable, Split, open_cells, split_cells

if TYPE_CHECKING:
    import anndata

    from scx_core.language import Language
    from scx_core.sentences import EncodedCell

Cells: TypeAlias = "CellTable | anndata.AnnData | str | Path"
Model: TypeAlias = "Language | str | Path"

__all__ = ["cell_sentences", "encode", "findings", "load_model", "read_cells", "split"]


def read_cells(source: Cells = "embedded", *, require_labels: bool = True, **choices: Any) -> CellTable:
    """Open single cells and detect what their file means.

    Parameters
    ----------
    source
        AnnData object [cells × genes] in memory, path (.h5ad, .zarr, 10x .h5, folder with matrix.mtx), or
        "embedded" (700 blood cells that come with scanpy). A CellTable comes back as it is.
    require_labels
        Whether cells without a usable column of cell types are refused.
    **choices
        Fields of `CellChoices` that overrule what is detected: `label`, `donor`, `symbols`, `values`,
        `organism`, `genome`, `labels_file`, `answers`.

    Returns
    -------
    CellTable
        Rows on demand (float32, counts or log-normalised), symbols [genes], labels [cells], donors [cells] or
        None, and the finding behind each of them.

    Raises
    ------
    ScxError
        The file cannot be read, or a choice names what it does not have: one line, with the remedy.

    References
    ----------
    Cells as text: Levine et al. 2024, Cell2Sentence. The embedded cells: Zheng et al. 2017,
    Nat Commun 8:14049.

    Examples
    --------
    >>> import scanpy, scx_core as scx
    >>> scx.pp.read_cells(scanpy.datasets.pbmc68k_reduced(), label="bulk_labels").n_cells
    700
    """
    if isinstance(source, CellTable):
        return source
    return open_cells(source, CellChoices(**choices), require_labels)


def findings(cells: Cells = "embedded") -> pd.DataFrame:
    """What was understood of the cells, and why: one row a finding.

    Parameters
    ----------
    cells
        As for `read_cells`.

    Returns
    -------
    pandas.DataFrame
        Columns choice, evidence, alternatives, level (ok, note or warning), indexed by topic: file, cells,
        symbols, genes, values, label, donor, organism.

    Raises
    ------
    ScxError
        The cells cannot be opened.

    References
    ----------
    scx_core.cells.open_cells; each rule stands in scx_core/cells/detection.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.pp.findings("embedded").loc["label", "choice"]
    'bulk_labels'
    """
    return pd.DataFrame(read_cells(cells).findings).set_index("topic")


def split(
    cells: Cells = "embedded",
    *,
    held_out: float = 0.1,
    choose: float = 0.05,
    by: str = "stratified",
    seed: int = 0,
) -> Split:
    """Part the labelled cells into those that train, choose and test.

    Parameters
    ----------
    cells
        As for `read_cells`.
    held_out, choose
        Shares of the cells that test, and that choose (thresholds, checkpoints).
    by
        "stratified" by cell type, "random", or "donor" (no donor is in two parts).
    seed
        Seed that draws them.

    Returns
    -------
    Split
        Row numbers `train`, `choose`, `held_out`, int64, ascending, without overlap.

    Raises
    ------
    ScxError
        There are too few cells, types or donors for these shares.

    References
    ----------
    docs/method.md §9: three parts, so that nothing is chosen on the cells that test.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.pp.split("embedded", held_out=0.1).words
    '594 cells to train on, 36 to choose on, 70 to test on.'
    """
    return split_cells(read_cells(cells), held_out, by, seed, choose)


def cell_sentences(
    cells: Cells = "embedded",
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    n_genes: int = 150,
    tie_seed: int = 42,
) -> pd.Series:
    """Rank the genes of each cell and write them as a sentence, highest expression first.

    Parameters
    ----------
    cells
        As for `read_cells`.
    rows
        Row numbers of the cells (default: all).
    n_genes
        Genes in a sentence, at most; genes without expression do not count.
    tie_seed
        Seed that orders genes of equal expression in a cell.

    Returns
    -------
    pandas.Series
        Text a cell, blanks between the genes, indexed by the cells' names.

    Raises
    ------
    ScxError
        The cells cannot be opened or read.

    References
    ----------
    Levine et al. 2024, Cell2Sentence.

    Examples
    --------
    >>> import scx_core as scx
    >>> len(scx.pp.cell_sentences("embedded", [0], n_genes=100).iloc[0].split())
    100
    """
    from scx_core.sentences import gene_sentences

    table = read_cells(cells, require_labels=False)
    wanted = np.arange(table.n_cells) if rows is None else np.asarray(rows, dtype=np.int64)
    texts = [" ".join(genes) for genes in gene_sentences(table, wanted, n_genes, tie_seed)]
    return pd.Series(texts, index=pd.Index(table.cell_ids[wanted], name="cell"), dtype=object)


def load_model(
    source: Model = "embedded",
    *,
    device: str = "auto",
    prompt: str | None = None,
    n_genes: int | None = None,
) -> Language:
    """Load the language model that reads cell sentences.

    Parameters
    ----------
    source
        Model folder, Hugging Face hub id (fetched, with a bar, when it is not on this computer), "embedded"
        (a small one of 0.7 M parameters) or "planted". A loaded model comes back as it is.
    device
        "auto", "cpu", "cuda" or "cuda:N".
    prompt, n_genes
        Template (its name or text) and genes a sentence, in place of what the model was trained with.

    Returns
    -------
    Language
        The model (float32 on a processor), its tokenizer, its prompt and its candidate answers.

    Raises
    ------
    ScxError
        The folder lacks a file, the family is not known, the checkpoint is gated or not on the hub, or the
        hub cannot be reached.

    References
    ----------
    Families and block forms: docs/method.md §1.

    Examples
    --------
    >>> import scx_core as scx
    >>> len(scx.pp.load_model("embedded").labels)
    10
    """
    from transformers.utils import logging

    from scx_core.language import Language, load_language
    from scx_core.runs import ConsoleProgress

    if isinstance(source, Language):
        return source
    logging.disable_progress_bar()  # of the weights of a small model
    with closing(ConsoleProgress()) as bar:
        return load_language(source, device, prompt=prompt, n_genes=n_genes, progress=bar)


def encode(
    cells: Cells = "embedded",
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    model: Model = "embedded",
) -> list[EncodedCell]:
    """Write the prompt of each cell as this model reads it, in tokens.

    Parameters
    ----------
    cells
        As for `read_cells`.
    rows
        Row numbers of the cells (default: all).
    model
        As for `load_model`.

    Returns
    -------
    list of EncodedCell
        One a cell: `ids` [T], the span of tokens of every gene (`spans`), the class of every token
        (`class_T`: prompt or gene) and `text`.

    Raises
    ------
    ScxError
        A cell has no genes that fit into the model's context.

    References
    ----------
    docs/method.md §4 (what stands before an answer) and §8 (a gene's tokens).

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.pp.encode("embedded", [0])[0].spans[0].rank
    1
    """
    from scx_core.language import encode_cells

    table = read_cells(cells, require_labels=False)
    return encode_cells(load_model(model), table, np.arange(table.n_cells) if rows is None else rows)
