"""Gene sets from whatever a user names: a file, the project's markers, a library online."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scx_core.atlas.gene_sets.marker_tables import MarkerColumns, read_marker_table
from scx_core.atlas.gene_sets.online import ONLINE, download_sets
from scx_core.atlas.gene_sets.sets import MARKERS, GeneSets, joined, read_gmt, shipped_markers
from scx_core.errors import ScxError
from scx_core.runs import write_atomic

TABLE_ENDINGS = (".csv", ".tsv")


def open_gene_sets(
    sources: str | Path | Sequence[str | Path],
    organism: str = "Homo sapiens",
    columns: MarkerColumns | None = None,
) -> GeneSets:
    """One or several sources as one collection.

    A source is "markers" (the lists that ship with the project), "gseapy:LIBRARY" (Enrichr, online), a GMT
    file, or a marker table (.csv, .tsv); files may be gzipped. Raises ScxError as the readers do.
    """
    named = [sources] if isinstance(sources, (str, Path)) else list(sources)
    return joined([_one(str(source), organism, columns) for source in named])


def _one(source: str, organism: str, columns: MarkerColumns | None) -> GeneSets:
    if source == MARKERS:
        return shipped_markers()
    if source.startswith(ONLINE):
        return download_sets(source.removeprefix(ONLINE), organism)
    path = Path(source).expanduser()
    if not path.is_file():
        raise ScxError(
            f"There are no gene sets {source!r}.",
            f"Give a GMT file, a CSV or TSV of markers, {MARKERS!r}, or {ONLINE}LIBRARY.",
        )
    if path.name.lower().removesuffix(".gz").endswith(TABLE_ENDINGS):
        return read_marker_table(path, organism, columns)
    return read_gmt(path)


def write_gmt(collection: GeneSets, path: Path | str) -> None:
    """Keep a collection, such as a downloaded one, as a GMT file. Raises ScxError when the disk is full."""
    lines = ["\t".join(map(_plain, (one.name, one.note, *one.genes))) for one in collection.sets]
    write_atomic(path, "\n".join(lines) + "\n")


def _plain(words: str) -> str:
    return " ".join(words.split())
