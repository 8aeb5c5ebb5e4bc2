"""What gene names are: symbols, ids, or something else; and what was done to them on the way here.

A name is a symbol because it looks like one, not because it is no id that we know. `read_names` takes a list
of names apart in this order, and says what it did:
 1. text: bytes written as text ("b'CD79A'"), quotes, escapes (HLA%2DDRA), unicode forms, odd hyphens and
    blanks, missing names;
 2. the genome's name in front (GRCh38_CD79A, mm10___Cd79a, gene:TP53) is cut, and what stands behind every
    name (CD79A-GRCh38, CD79A-201);
 3. symbol and id in one name (CD79A_ENSG00000105369, 973|CD79A) are told apart;
 4. R's make.names (HLA.DRA for HLA-DRA) and its like (HLA_DRA) are undone where it is certain;
 5. names that a spreadsheet turned into dates or numbers are found; they cannot be turned back.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pandas as pd

SYMBOL, ENSEMBL, JOINED, NUMBER = "symbol", "ensembl", "joined", "number"
BARCODE, OTHER_ID = "barcode", "other-id"
EMPTY, REPEATED, NUMBERED, UNKNOWN = "empty", "repeated", "numbered", "unknown"
KIND_WORDS = {
    ENSEMBL: "Ensembl ids", NUMBER: "bare numbers", OTHER_ID: "transcript, probe or protein ids",
    BARCODE: "cell barcodes", EMPTY: "mostly empty", SYMBOL: "gene symbols",
    JOINED: "symbols joined with ids",
    REPEATED: "one and the same name over and over", NUMBERED: "running numbers",
    UNKNOWN: "names that are not written like gene symbols",
}  # fmt: skip
SAMPLE = 4000
MISSING = frozenset({"nan", "none", "na", "n/a", "<na>", "null"})

_ENSEMBL_CORE = r"(?:ENS[A-Z]{0,6}G|FBGN|WBGENE)\d{6,}(?:\.\d+)?(?:_PAR_Y)?"
ENSEMBL_ID = re.compile(_ENSEMBL_CORE, re.IGNORECASE)
# What may stand around an Ensembl id without making it another kind of name.
_AROUND_ID = re.compile(r"[\W_]*(?:gene(?:_?id)?|at|[\W_\d])*", re.IGNORECASE)
_OTHER_CORE = (
    r"(?:[NX][MR]_\d+(?:\.\d+)?|ENS[A-Z]{0,6}T\d{6,}(?:\.\d+)?|HGNC:\d+|MGI:\d+|ILMN_\d+"
    r"|(?:Entrez|NCBIGene):?\d+)"
)
_OTHER_ID = re.compile(
    rf"(?:{_OTHER_CORE}|\d+(?:_[a-z])*_at|AFFX-\S+|A_\d\d_P\d+|TC\d{{10}}\.\w+\.\d+|cg\d{{8}})"
)
# Some symbols have this form too (P2RY14, B3GNT2), so it is only asked of all names together.
_PROTEIN = re.compile(r"[OPQ]\d[A-Z\d]{3}\d|[A-NR-Z]\d[A-Z][A-Z\d]{2}\d(?:[A-Z][A-Z\d]{2}\d)?")
_ANY_CORE = re.compile(rf"{_ENSEMBL_CORE}|{_OTHER_CORE}", re.IGNORECASE)
_NUMBER_JOINED = re.compile(
    r"(?:(\d{1,9})[\W_]+([A-Za-z][\w.-]*)|([A-Za-z][\w.-]*?)(?:[|:;/,\s(\[]|__?)+(\d{1,9})[\])]?)"
)
_NUMBER = re.compile(r"\d+(?:\.0)?")
_BARCODE = re.compile(r"(?:[\w.]*[_:#-])?[ACGT]{10,}(?:[-_.]\w+)*")
_COUNTED = re.compile(r"([A-Za-z]*[_\W]*)\d+")
# A symbol as people write it: letters and digits, parts with hyphens or dots; an underscore is rare.
_WRITTEN = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]{1,20}(?:[-.@:/()']{1,2}[A-Za-z0-9]{1,15}){0,4}\)?")
# Families that every human or mouse gene list has: enough to tell gene names from other names.
_FAMILY = re.compile(
    r"(?:RP[LS]\d+[AXLY]?\d*|MT-(?:ND|CO|ATP|CYB)\w*|HLA-\w+|CD\d+[A-Z]?|EIF\d\w+|PSM[A-D]\d+|NDUF[ABSV]\d+"
    r"|COX\d\w+|UBE2\w+|ZNF\d+|SLC\d+A\d+|LINC\d+|TMEM\d+\w?|FAM\d+[A-Z]\w*|KRT\d+|COL\d+A\d+|IL\d+\w*|CCL\d+"
    r"|CXCL\d+|S100A\d+|ATP\d\w+|DNAJ[ABC]\d+|HIST\d\w+|RAB\d+\w?|RBM\d+\w?|KIF\d+\w?|ACT[ABG]\d?|B2M|GAPDH|MALAT1)",
    re.IGNORECASE,
)

_ASSEMBLIES = r"GRCh3[78]|hg(?:18|19|38)|GRCm3[89]|mm(?:9|10|39)|Rnor[\w.]*?|rn[67]|mRatBN\d[\w.]*?|GRCz1[01]"
_ASSEMBLY = re.compile(
    rf"((?:[\w.]+-)*(?:{_ASSEMBLIES})(?:-[\w.-]+?)?|human|mouse|homo_sapiens|mus_musculus)[_:|]+(?=\w)",
    re.IGNORECASE,
)
_ANY_PREFIX = re.compile(r"([A-Za-z][\w.]*?(?:_+|[:|]+|-))(?=[A-Za-z0-9])")

_BYTES = re.compile(r"b(['\"])(.*)\1")
_HYPHENS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d", "-"))
# Signs without a look of their own; some turn the direction of the text around.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\u00ad]")
_QUOTED = re.compile(r"(['\"])([^'\"]+)\1")
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}|&(?:#\d+|#x[0-9A-Fa-f]+|[a-z]+);")
# What may stand behind every name: the assembly, a transcript's or a copy's number.
_BEHIND = re.compile(rf"(?<=\w)(?:[-_.|](?:{_ASSEMBLIES})|[-.]\d{{1,3}})", re.IGNORECASE)
_FLAT = re.compile(r"(?:HLA|MT|NKX\d|H2)[_ ][A-Za-z0-9]+", re.IGNORECASE)  # _ or a blank for the hyphen
_NO_GENE = re.compile(
    r"ERCC-\d{5}|\S+[_-](?:Total[ _-]?Seq[A-D]?|ADT|prot|protein)|ADT[_-]\S+|(?:HTO|Hashtag)[_-]?\d+",
    re.IGNORECASE,
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)"
SPREADSHEET = re.compile(
    rf"(?:\d{{1,2}}[-./ ]{_MONTH}(?:[-./ ]\d{{2,4}})?|{_MONTH}[-./ ]\d{{1,2}}(?:[-./ ]\d{{2,4}})?"
    r"|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[ T][\d:.]+)?|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{2}|\d{4})"
    r"|\d+(?:[.,]\d+)?E\+?\d+)",
    re.IGNORECASE,
)  # fmt: skip
# Dots that belong to a symbol: clones and accessions with a version (AC012345.1).
_ACCESSION = re.compile(
    r"(?:[A-Z]{1,2}\d{5,6}|[A-Z]{4}\d{8,}|CTC-\w+|RP\d+-\w+|AP\d{6}|yR\w+)\.\d+", re.IGNORECASE
)
_R_DOT = re.compile(
    r"(?:HLA|MT|H2|NKX\d|ERV[A-Z0-9]*|KRTAP\d+|RP\d+|HIST\d\w*|TRA[BVJ]\w*|IG[HKL]V\w*)\.[A-Za-z0-9.]+",
    re.IGNORECASE,
)


class Names(NamedTuple):
    """Names after reading. `symbol` [n]: the name to use, "" where there is none; `genome` [n]: the genome
    that stood in front, "" where none did; `kind`; `written`: share of the names that are written like
    symbols; `known`: share of well-known families; `converted` [n]: a spreadsheet made it a date or a number;
    `repairs` and `doubts`: sentences about what was done and what could not be."""

    symbol: list[str]
    genome: list[str]
    kind: str
    written: float
    known: float
    converted: np.ndarray
    repairs: tuple[str, ...]
    doubts: tuple[str, ...]


def clean_text(values: pd.Index | pd.Series | Sequence[object]) -> list[str]:
    """Values as text: bytes unwrapped, unicode composed (NFC), odd hyphens and invisible signs unified, outer
    blanks off; missing values as ""."""
    series = pd.Series(np.asarray(values, dtype=object))
    missing = series.isna().to_numpy()
    return ["" if gone else _tidy(value) for gone, value in zip(missing, series.tolist(), strict=True)]


def whole_characters(text: str) -> str:
    """The text with a mark for each half of a character, as bytes that are no UTF-8 become: no file,
    tokenizer or page can hold one."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _tidy(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else whole_characters(str(value))
    if found := _BYTES.fullmatch(text.strip()):
        text = found.group(2)
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text)).translate(_HYPHENS)
        text = text.replace("\u00a0", " ")
    return text.strip()


def clean_names(names: pd.Index | pd.Series | Sequence[object]) -> list[str]:
    """Names as tidy text; missing ones, and words for "missing", as "". A single "nan" among other names is
    a gene's name (flies have one): it stays."""
    text = clean_text(names)
    blank = [place for place, name in enumerate(text) if name.lower() in MISSING]
    if len(blank) == 1 and all(text) and text[blank[0]].lower() == "nan":
        return text
    for place in blank:
        text[place] = ""
    return text


def some(names: pd.Index | pd.Series | Sequence[object]) -> list[str]:
    """At most `SAMPLE` names, spread over all, tidied."""
    step = max(1, len(names) // SAMPLE)
    return clean_names(names.iloc[::step] if isinstance(names, pd.Series) else names[::step])


def kind_of_names(names: pd.Index | pd.Series | Sequence[object]) -> str:
    """What most of some names are: a key of `KIND_WORDS`."""
    return read_names(some(names)).kind


def is_of_family(name: str) -> bool:
    """Whether a name is of a family that every human or mouse gene list has."""
    return bool(_FAMILY.fullmatch(name))


def family_share(names: pd.Index | pd.Series | Sequence[object]) -> float:
    """Share of names of well-known gene families: about 0.1 to 0.3 for genes, 0 for cells."""
    return _family(some(names))


def read_names(names: pd.Index | pd.Series | Sequence[object]) -> Names:
    """Take names apart (see the head of this file)."""
    raw = [str(name) for name in names]
    text = clean_names(names)
    repairs = []
    if n_bytes := sum(bool(_BYTES.fullmatch(name.strip())) for name in raw):
        repairs.append(
            f"{n_bytes:,} names were bytes written as text (such as {_example(raw, _BYTES)}): unwrapped"
        )
    text, notes = _plain(text)
    repairs += notes
    text, genome, cut = _without_genome(text)
    repairs += cut
    text, notes = _without_ends(text)
    repairs += notes
    text, joined = _without_ids(text)
    if joined:
        repairs.append(joined)
    if sum(name.lower() == "nan" for name in text) == 1:
        repairs.append("one gene is called 'nan', as a gene of flies is, and is kept")
    kind = JOINED if joined else _kind(text)
    doubts: list[str] = []
    converted = np.array([bool(SPREADSHEET.fullmatch(name)) for name in text], dtype=bool)
    if kind in (SYMBOL, JOINED):
        dotted = [name for name in text if _R_DOT.fullmatch(name) and not _ACCESSION.fullmatch(name)]
        text, repaired, doubts = _with_hyphens(
            text, dotted, _without_dots, "have a dot where the symbol has a hyphen, others have hyphens",
            "had dots for hyphens, as R's make.names writes them",
        )  # fmt: skip
        flat = [name for name in text if _FLAT.fullmatch(name)]
        text, also_repaired, also_doubts = _with_hyphens(
            text, flat, _without_blanks, "have a _ or a blank where the symbol has a hyphen",
            "had a _ or a blank for the hyphen",
        )  # fmt: skip
        repairs, doubts = repairs + repaired + also_repaired, doubts + also_doubts + _no_genes(text)
    else:
        converted[:] = False
    filled = [name for name in text if name]
    written = float(np.mean([is_written_like_symbol(name) for name in filled])) if filled else 0.0
    return Names(text, genome, kind, written, _family(filled), converted, tuple(repairs), tuple(doubts))


def is_written_like_symbol(name: str) -> bool:
    """Whether a name has the form of a gene symbol of some organism, and not that of an id, a date, a cell
    barcode or a number."""
    return bool(_WRITTEN.fullmatch(name)) and not any(
        pattern.fullmatch(name) for pattern in (ENSEMBL_ID, _OTHER_ID, SPREADSHEET, _BARCODE, _NUMBER)
    )


def _kind(names: Sequence[str]) -> str:
    filled = [name for name in names if name]
    if len(filled) < 0.5 * max(len(names), 1):
        return EMPTY
    n = len(filled)
    if n > 3 and len(set(filled)) <= 0.5 * n:
        return REPEATED
    if sum(_is_ensembl(name) for name in filled) >= 0.5 * n:
        return ENSEMBL
    for kind, pattern in (
        (NUMBER, _NUMBER),
        (BARCODE, _BARCODE),
        (OTHER_ID, _OTHER_ID),
        (OTHER_ID, _PROTEIN),
    ):
        if sum(bool(pattern.fullmatch(name)) for name in filled) >= 0.5 * n:
            return kind
    if n > 4:
        stems = Counter(found.group(1).lower() for name in filled if (found := _COUNTED.fullmatch(name)))
        if stems and max(stems.values()) >= 0.6 * n and _family(filled) < 0.3:
            return NUMBERED
    return SYMBOL if sum(is_written_like_symbol(name) for name in filled) >= 0.5 * n else UNKNOWN


def _is_ensembl(name: str) -> bool:
    """An Ensembl id, with whatever may stand around one: a version, "gene:", "_at"."""
    found = ENSEMBL_ID.search(name)
    return found is not None and all(
        _AROUND_ID.fullmatch(side) for side in (name[: found.start()], name[found.end() :])
    )


def ensembl_of(name: str) -> str:
    """The Ensembl id in a name without its version, in upper case; "" where there is none."""
    found = ENSEMBL_ID.search(name)
    return re.sub(r"\.\d+", "", found.group(0)).upper() if found else ""


def _without_genome(names: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Names without the genome in front, the genome of each, and what was cut in words."""
    found = [_ASSEMBLY.match(name) for name in names]
    n_filled = max(1, sum(map(bool, names)))
    if sum(map(bool, found)) >= 0.2 * n_filled:
        genome = [match.group(1).rstrip("_:|-") if match else "" for match in found]
        short = [name[match.end() :] if match else name for name, match in zip(names, found, strict=True)]
        counts = Counter(name for name in genome if name)
        notes = ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items()))
        example = next(name for name, match in zip(names, found, strict=True) if match)
        return short, genome, [f"the genome's name in front was cut off: {notes}, such as {example}"]
    prefixes = Counter(match.group(1) for name in names if (match := _ANY_PREFIX.match(name)))
    prefix, count = prefixes.most_common(1)[0] if prefixes else ("", 0)
    if n_filled > 4 and count >= 0.9 * n_filled:
        short = [name.removeprefix(prefix) for name in names]
        if (
            _kind(short) in (SYMBOL, ENSEMBL)
            and not _is_ensembl(prefix)
            and not _family(short) < _family(names)
        ):
            return short, [""] * len(names), [f"'{prefix}' in front of {count:,} names was cut off"]
    return names, [""] * len(names), []


def _family(names: Sequence[str]) -> float:
    return float(np.mean([bool(_FAMILY.fullmatch(name)) for name in names])) if names else 0.0


def _without_ids(names: list[str]) -> tuple[list[str], str]:
    """The symbols of names that join symbol and id, and a sentence about it; "" where they do not."""
    filled = [name for name in names if name]
    parts = [_parted(name) for name in filled]
    if not filled or sum(map(bool, parts)) < 0.5 * len(filled):
        return names, ""
    symbols = {part for part in parts if part}
    if len(symbols) <= max(1, 0.5 * sum(map(bool, parts))):
        return names, ""  # "GENE_1", "GENE_2": one word with a running number
    example = next(name for name, part in zip(filled, parts, strict=True) if part)
    short = [_parted(name) or name for name in names]
    return short, f"names join symbol and id (such as {example}): the symbol is used"


def _parted(name: str) -> str:
    """The symbol of a name that holds an id beside it; "" for any other name."""
    if found := _ANY_CORE.search(name):
        rest = [part.strip(" _|:;/,.-()[]") for part in (name[: found.start()], name[found.end() :])]
        good = [part for part in rest if is_written_like_symbol(part) and not _AROUND_ID.fullmatch(part)]
        return good[0] if len(good) == 1 else ""
    if found := _NUMBER_JOINED.fullmatch(name):
        symbol = found.group(2) or found.group(3)
        return symbol if is_written_like_symbol(symbol) and len(symbol) > 1 else ""
    return ""


def _plain(names: list[str]) -> tuple[list[str], list[str]]:
    """Names without quotes around them all, without escapes, in plain letters instead of full-width ones;
    and what was done."""
    notes, filled = [], [name for name in names if name]
    quoted = [name for name in filled if _QUOTED.fullmatch(name)]
    if filled and len(quoted) >= 0.9 * len(filled):
        names = [found.group(2).strip() if (found := _QUOTED.fullmatch(name)) else name for name in names]
        notes.append(f"{len(quoted):,} names stood in quotes (such as {quoted[0]}): taken off")
    escaped = [name for name in names if _ESCAPED.search(name)]
    plain = {name: html.unescape(unquote(name)) for name in escaped}
    if plain and sum(map(is_written_like_symbol, plain.values())) >= 0.9 * len(plain):
        names = [plain.get(name, name) for name in names]
        notes.append(f"{len(escaped):,} names held escaped signs (such as {escaped[0]}): put back")
    wide = {name: unicodedata.normalize("NFKC", name) for name in names if not name.isascii()}
    wide = {name: text for name, text in wide.items() if text.isascii()}
    if wide:
        names = [wide.get(name, name) for name in names]
        notes.append(f"{len(wide):,} names were in letters of another width (such as {next(iter(wide))})")
    return names, notes


def _without_ends(names: list[str]) -> tuple[list[str], list[str]]:
    """Names without an assembly or a number behind nearly all of them, where only that makes them names of
    well-known families; and what was cut."""
    found = [_behind(name) for name in names]
    n_filled = sum(map(bool, names))
    if n_filled <= 4 or sum(map(bool, found)) < 0.9 * n_filled:
        return names, []
    short = [name.removesuffix(end) if end else name for name, end in zip(names, found, strict=True)]
    before, after = (_family([name for name in some if name]) for some in (names, short))
    if not (after >= 0.03 and after > 3 * before):
        return names, []
    example = next(name for name, end in zip(names, found, strict=True) if end)
    return short, [f"what stands behind {sum(map(bool, found)):,} names was cut off (such as {example})"]


def _behind(name: str) -> str:
    ends = [found.group(0) for found in _BEHIND.finditer(name) if found.end() == len(name)]
    return "" if _is_ensembl(name) or not ends else ends[-1]


def _with_hyphens(
    names: list[str], odd: list[str], mend: Callable[[str], str], doubt: str, repair: str
) -> tuple[list[str], list[str], list[str]]:
    """Names with hyphens put back, as `odd` ones lack theirs, where no hyphen is left in any name; what was
    done, and what is in doubt."""
    if not odd:
        return names, [], []
    examples = ", ".join(odd[:3])
    if any("-" in name for name in names):
        return names, [], [f"{len(odd):,} names {doubt}: {examples}"]
    fixed = [mend(name) for name in names]
    n = sum(a != b for a, b in zip(names, fixed, strict=True))
    return fixed, [f"{n:,} names {repair} (such as {examples}): put back"], []


def _no_genes(names: list[str]) -> list[str]:
    """A sentence about names of spike-ins and antibodies among genes."""
    others = [name for name in names if _NO_GENE.fullmatch(name)]
    if not others:
        return []
    return [
        f"{len(others):,} names are of spike-ins or antibodies, not of genes, and stand in the sentences all "
        f"the same; take them out of the file: {', '.join(others[:3])}"
    ]


def _without_dots(name: str) -> str:
    """A name with hyphens for R's dots; accessions keep theirs, a clone the version behind its name."""
    if _ACCESSION.fullmatch(name):
        return name
    if found := re.fullmatch(r"(RP\d+|CT[ABCD]|KB|LL\w+|GS1|XX\w*)\.(.+)", name):
        return f"{found.group(1)}-{found.group(2)}"
    return name.replace(".", "-")


def _without_blanks(name: str) -> str:
    return re.sub(r"[_ ]", "-", name) if _FLAT.fullmatch(name) else name


def _example(names: Sequence[str], pattern: re.Pattern[str]) -> str:
    return next(name for name in names if pattern.fullmatch(name.strip()))
