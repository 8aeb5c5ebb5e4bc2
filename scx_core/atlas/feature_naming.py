"""What an atlas calls the features of a circuit: one function from its tables to names, and which atlas it
is.

A name is the atlas' label, with the figure that it rests on. Where the label would say more than that figure,
it says less here: a feature of many genes is called that, not by its first three or by its verdict, and one
of the prompt's words not by pieces of text that stand in genes too.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scx_core.atlas.atlas_folder import FOLDER, shipped_root
from scx_core.atlas.judge.protocol import CONTEXT_OF_MANY, DEAD, GENE, NAMED, POLYSEMANTIC, PROMPT, RARE
from scx_core.atlas.tables.atlas import FILE, LABELS_FILE, Atlas
from scx_core.circuits.feature_names import GENE_SHARE, MANY, MANY_GENES, FeatureName, NameBook
from scx_core.errors import ScxError
from scx_core.runs import read_json, runs_root

ATLAS, LABEL = "atlas", "label"  # sources of a name
MOSTLY = 0.75  # of the activation of a mixed feature that is at genes, to be called after them alone
GENES_AND_PROMPT = "genes and prompt"


def feature_names(atlas: Atlas) -> dict[tuple[int, int], FeatureName]:
    """Names by (layer, feature): a person's label if one was given, else the automatic one.

    `share` is the figure of the verdict; of a gene-level feature the share of its activation at the genes
    that the name holds. A mixed feature is called after its genes only as "many genes", a rare one after a
    gene that holds a quarter of its activation. Dead features have no name.
    """
    table = atlas.features[["layer", "feature", "verdict", "score", "label", "gene", "prompt", "answer"]]
    leading = atlas.table("genes").groupby(["layer", "feature"], sort=False).head(NAMED)
    first = leading.groupby(["layer", "feature"], sort=False)["share"].first()
    named = leading.groupby(["layer", "feature"], sort=False)["share"].sum()
    table = table.join(first.rename("first"), on=["layer", "feature"])
    table = table.join(named.rename("named"), on=["layer", "feature"]).fillna({"first": 0.0, "named": 0.0})
    pieces = atlas.table("pieces")
    pieces = pieces[pieces["genes"].astype(str) == "0"]  # stored as text
    pieces = pieces.groupby(["layer", "feature"], sort=False)["text"].agg(list)
    table = table.join(pieces.rename("words"), on=["layer", "feature"])
    found = {
        (int(row.layer), int(row.feature)): _name(row) for row in table[table["verdict"] != DEAD].itertuples()
    }
    given = {key: FeatureName(label, LABEL, None, LABEL) for key, label in atlas.given_labels().items()}
    return found | given


def _name(row: Any) -> FeatureName:
    verdict, label, score = str(row.verdict), str(row.label), float(row.score)
    if verdict == GENE:
        return FeatureName(label, verdict, min(1.0, float(row.named)), ATLAS)
    if verdict == RARE:
        known = float(row.first) >= GENE_SHARE
        return FeatureName(label if known else RARE, verdict, float(row.first) if known else None, ATLAS)
    if verdict == POLYSEMANTIC or label == CONTEXT_OF_MANY:
        mostly = row.gene >= MOSTLY
        text = MANY_GENES if mostly else GENES_AND_PROMPT
        return FeatureName(text, MANY, float(row.gene) if mostly else 1.0, ATLAS)
    if verdict == PROMPT:
        # which words around the genes: the prompt's, the answer's or both, with pieces that no gene has
        where = "prompt" if row.prompt >= 2 * row.answer else "prompt/answer"
        where = "answer" if row.answer >= 2 * row.prompt else where
        words = [str(one).strip() for one in row.words][:NAMED] if isinstance(row.words, list) else []
        quoted = ", ".join(f"“{word}”" for word in words if word)
        return FeatureName(f"{where} words {quoted}".rstrip(), verdict, score, ATLAS)
    return FeatureName(label, verdict, score, ATLAS)


def book_of(atlas: Atlas, name: str) -> NameBook:
    """The names of an atlas, and their source: its name and a mark of the names themselves."""
    names = feature_names(atlas)
    lines = "\n".join(f"{key} {one.kind} {one.text}" for key, one in sorted(names.items()))
    mark = hashlib.sha256(lines.encode("utf-8", "replace")).hexdigest()[:12]
    return NameBook(f"names from atlas {name}@{mark}", names)


def name_book(made_from: Mapping[str, Any], root: Path | None = None) -> NameBook | None:
    """The names of an atlas of the model and the transcoders that `made_from` states (a provenance, or
    anything with a fingerprint each); None when there is none.

    Searched in the runs folder and among what ships with scX. Of several the one of the same cells, then of
    the most cells. One that cannot be read is passed over.
    """
    for folder in _describing(made_from, root or runs_root()):
        try:
            return book_of(Atlas.open(folder), folder.name)
        except (ScxError, KeyError):  # an older atlas may lack a column
            continue
    return None


def fitting_atlas(made_from: Mapping[str, Any], root: Path | None = None) -> Atlas | None:
    """The atlas that `name_book` takes names from: for a feature's card beside a circuit."""
    for folder in _describing(made_from, root or runs_root()):
        try:
            return Atlas.open(folder)
        except ScxError:
            continue
    return None


def shipped_copy(made_from: Mapping[str, Any], root: Path | None = None) -> Path | None:
    """The folder of a copy, in the runs folder, of the atlas that ships for this model, these transcoders and
    these cells, so that labels and gene sets of one's own are not written into what ships; copied when it
    is first asked for. None where none ships. Raises OSError when it cannot be copied."""
    root = root or runs_root()
    for folder in _describing(made_from, root):
        about = read_json(folder / FILE).get("provenance", {})
        if folder.parent != shipped_root() or _mark(about, "data") != _mark(made_from, "data"):
            continue
        place = root / FOLDER / folder.name
        if not (place / FILE).exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent) as made:
                whole = shutil.copytree(folder, Path(made) / folder.name)
                if not place.exists():
                    whole.rename(place)
        return place
    return None


def atlases_stamp(root: Path | None = None) -> tuple[tuple[str, int], ...]:
    """Changes when an atlas or a label in the runs folder does, or what ships with scX."""
    names = (FILE, LABELS_FILE)
    files = [path for name in names for path in ((root or runs_root()) / FOLDER).glob(f"*/{name}")]
    files += shipped_root().glob(f"*-atlas/{FILE}")
    return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in files))


def _describing(made_from: Mapping[str, Any], root: Path) -> list[Path]:
    """Folders of atlases of the same features, the fittest first."""
    wanted = [_mark(made_from, part) for part in ("model", "transcoders")]
    if not all(wanted):
        return []
    found = []
    found_at = [(0, path) for path in (root / FOLDER).glob(f"*/{FILE}")]
    found_at += [(1, path) for path in shipped_root().glob(f"*-atlas/{FILE}")]
    for shipped, path in found_at:
        try:
            meta = read_json(path)
        except ScxError:
            continue
        about = meta.get("provenance") if isinstance(meta, dict) else None
        if not isinstance(about, dict) or [_mark(about, part) for part in ("model", "transcoders")] != wanted:
            continue
        other = _mark(about, "data") != _mark(made_from, "data")
        found.append((other, -int(meta.get("n_cells", 0)), shipped, path.parent))
    return [folder for *_, folder in sorted(found)]


def _mark(made_from: Mapping[str, Any], part: str) -> str:
    thing = made_from.get(part)
    mark = thing.get("fingerprint") if isinstance(thing, Mapping) else getattr(thing, "fingerprint", None)
    return str(mark or "")
