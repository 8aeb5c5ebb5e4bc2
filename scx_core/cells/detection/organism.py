"""Which organism the cells are from: a column, a fact in the file, or the way the genes are written.

Species are known by common and scientific names, taxon ids, assemblies and the beginnings of Ensembl ids.
Free text is none of them: it never becomes a word of a prompt.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from scx_core.cells.choices import Finding, did_you_mean
from scx_core.errors import ScxError

from .columns import as_labels, plain
from .name_rules import ensembl_of, family_share, some

HUMAN, MOUSE, RAT, ZEBRAFISH = "Homo sapiens", "Mus musculus", "Rattus norvegicus", "Danio rerio"
# Scientific name, taxon id, common names, beginning of its Ensembl gene ids.
_SPECIES = (
    (HUMAN, "9606", ("human", "homo", "hsapiens", "hsap"), "ENSG"),
    (MOUSE, "10090", ("mouse", "mmusculus", "mmus"), "ENSMUSG"),
    (RAT, "10116", ("rat", "rnorvegicus"), "ENSRNOG"),
    (ZEBRAFISH, "7955", ("zebrafish", "drerio"), "ENSDARG"),
    ("Macaca mulatta", "9544", ("rhesus macaque", "rhesus monkey", "macaque"), "ENSMMUG"),
    ("Macaca fascicularis", "9541", ("crab-eating macaque", "cynomolgus monkey"), "ENSMFAG"),
    ("Callithrix jacchus", "9483", ("marmoset", "common marmoset"), "ENSCJAG"),
    ("Pan troglodytes", "9598", ("chimpanzee",), "ENSPTRG"),
    ("Gorilla gorilla", "9593", ("gorilla",), "ENSGGOG"),
    ("Microcebus murinus", "30608", ("mouse lemur", "gray mouse lemur"), "ENSMICG"),
    ("Sus scrofa", "9823", ("pig",), "ENSSSCG"),
    ("Bos taurus", "9913", ("cow", "cattle"), "ENSBTAG"),
    ("Ovis aries", "9940", ("sheep",), "ENSOARG"),
    ("Canis lupus familiaris", "9615", ("dog", "canis familiaris"), "ENSCAFG"),
    ("Felis catus", "9685", ("cat",), "ENSFCAG"),
    ("Oryctolagus cuniculus", "9986", ("rabbit",), "ENSOCUG"),
    ("Gallus gallus", "9031", ("chicken",), "ENSGALG"),
    ("Xenopus tropicalis", "8364", ("frog", "western clawed frog"), "ENSXETG"),
    ("Drosophila melanogaster", "7227", ("fruit fly", "fly"), "FBGN"),
    ("Caenorhabditis elegans", "6239", ("worm", "c. elegans"), "WBGENE"),
    ("Saccharomyces cerevisiae", "4932", ("yeast", "baker's yeast"), ""),
    ("Arabidopsis thaliana", "3702", ("thale cress",), ""),
)  # fmt: skip
KNOWN = tuple(name for name, *_ in _SPECIES)
_WORDS = {
    word: name
    for name, taxon, common, _ in _SPECIES
    for word in (
        name.lower(), name.lower().replace(" ", "_"), taxon, f"ncbitaxon:{taxon}", f"txid{taxon}", *common,
        f"{name[0].lower()}. {name.split(maxsplit=1)[1].lower()}",
    )
}  # fmt: skip
SIMULATED = "simulated"  # no species: cells that were made up, such as those of planted.py
_WORDS[SIMULATED] = SIMULATED
_IDS = {prefix: name for name, _, _, prefix in _SPECIES if prefix}
_ASSEMBLIES = (
    (r"grch\d\d|hg(?:18|19|38)|t2t-chm13|chm13", HUMAN), (r"grcm\d\d|mm(?:9|10|39)", MOUSE),
    (r"rnor|rn[67]|mratbn", RAT), (r"grcz\d\d|danrer\d+", ZEBRAFISH),
    (r"mmul_?\d+|rhemac\d+", "Macaca mulatta"),
    (r"sscrofa\d+", "Sus scrofa"), (r"bdgp\d*|dm6", "Drosophila melanogaster"),
    (r"wbcel\d+", "Caenorhabditis elegans"),
)  # fmt: skip


def known_species(words: str) -> str:
    """The scientific name for a name, a taxon id or an assembly (also inside a longer name such as
    refdata-gex-GRCh38-2020-A); "" for words that name none."""
    text = " ".join(str(words).split()).lower()
    if text in _WORDS:
        return _WORDS[text]
    for pattern, name in _ASSEMBLIES:
        if re.search(rf"(?<![a-z0-9])(?:{pattern})(?![0-9])", text):
            return name
    return ""


def species_of_id(prefix: str) -> str:
    """The species whose Ensembl gene ids begin so ("ENSMUSG"), or ""."""
    return _IDS.get(prefix.upper(), "")


_COLUMNS = ("organism", "species", "organism_label", "organism_ontology_term_label", "feature_reference",
            "organism_ontology_term_id")  # fmt: skip
_TITLE = re.compile(r"[A-Z][a-z]+[a-z0-9]*(?:[-.]\w+)?")


def find_organism(
    obs: pd.DataFrame,
    ids: pd.Series | pd.Index,
    var: pd.DataFrame,
    symbols: pd.Series,
    hints: dict[str, str],
    wanted: str | None,
    where: str,
) -> Finding:
    """The organism's scientific name as `choice`, from a choice, a column, a fact in the file, or the genes.

    `symbols` are the gene names before they were put in upper case, `ids` other names of the same genes.
    Words that name no known species are reported and not used: they would stand in every prompt.
    """
    if wanted is not None:
        return _chosen(obs, var, wanted, where)
    ignored = []
    for table_name, table in (("obs", obs), ("var", var)):
        for column in table.columns:
            if plain(column) in _COLUMNS:
                found, unknown = _from_column(table[column], f"{table_name} column '{column}'")
                if found:
                    return found
                ignored += unknown
    for key, words in hints.items():
        if name := known_species(words):
            return Finding("organism", name, f"{key}: {words}", _others(name))
        ignored.append(f"{key} says '{words[:60]}'")
    found = _from_genes(ids, symbols)
    if not ignored:
        return found
    evidence = (
        f"{found.evidence}; {ignored[0]}, which is no organism or assembly that is known, so it is not used"
    )
    return found._replace(evidence=evidence, level="note" if found.level == "ok" else found.level)


def _others(name: str) -> tuple[str, ...]:
    return tuple(other for other in (HUMAN, MOUSE) if other != name)


def _chosen(obs: pd.DataFrame, var: pd.DataFrame, wanted: str, where: str) -> Finding:
    for table_name, table in (("obs", obs), ("var", var)):
        if wanted in table.columns:
            found, unknown = _from_column(table[wanted], f"chosen: {table_name} column '{wanted}'")
            if found:
                return found
            problem = f"{unknown[0]}, which is no organism that is known" if unknown else "it is empty"
            raise ScxError(
                f"{where}: the organism column '{wanted}' cannot be used: {problem}.",
                "Type the organism's name instead.",
            )
    if name := known_species(wanted):
        return Finding("organism", name, "chosen by name", _others(name))
    known = [*KNOWN, *map(str, obs.columns), *map(str, var.columns)]
    raise ScxError(
        f"{where} has no organism column '{wanted}', and no organism of this name is known.",
        did_you_mean(wanted, known),
    )


def _from_column(column: pd.Series, where: str) -> tuple[Finding | None, list[str]]:
    """The finding of a column, or None; and what the column says that names no species."""
    values, counts = np.unique(as_labels(column).astype(str), return_counts=True)
    values, counts = values[values != ""], counts[values != ""]
    if not len(values):
        return None, []
    named = {value: known_species(value) for value in values.tolist()}
    unknown = [f"{where} says '{value[:60]}'" for value, name in named.items() if not name]
    species = set(named.values()) - {""}
    if not species:
        return None, unknown
    of = dict.fromkeys(sorted(species, key=lambda name: (name != HUMAN, name)), 0)
    for value, name in named.items():
        if name:
            of[name] += int(counts[values == value].sum())
    most = max(of, key=lambda name: of[name])
    tied = sum(count == of[most] for count in of.values()) > 1
    if len(species) == 1 and not unknown:
        return Finding("organism", most, f"{where} says {values[0]}", _others(most)), []
    listed = ", ".join(f"{value} ({count:,})" for value, count in zip(values, counts, strict=True))
    evidence = f"{where} names several: {listed}. "
    evidence += (
        f"As many are of each, so choose; until then {most} is assumed"
        if tied
        else (f"The most frequent, {most}, goes into every prompt")
    )
    return Finding("organism", most, evidence, _others(most), "warning"), unknown


def _from_genes(ids: pd.Series | pd.Index, symbols: pd.Series) -> Finding:
    found = pd.Series([ensembl_of(name) for name in some(ids)], dtype=object).str.extract(
        r"^(ENS[A-Z]*G|FBGN|WBGENE)\d", expand=False
    )
    begins = found.dropna()
    if len(begins) > 0.5 * len(found) and (name := species_of_id(begins.mode()[0])):
        level = "ok" if name == HUMAN else "note"
        return Finding("organism", name, f"Ensembl ids begin with {begins.mode()[0]}", _others(name), level)
    named = [name for name in some(symbols) if re.search("[A-Za-z]{2}", name)]
    title = float(np.mean([bool(_TITLE.fullmatch(name)) for name in named])) if named else 0.0
    if title > 0.5:
        evidence = f"{title:.0%} of the symbols are written like mouse genes ('{named[0]}'); they are put in "
        evidence += "upper case, which makes most of them the names of their human counterparts, but not all"
        return Finding("organism", MOUSE, evidence, (HUMAN, RAT), "note")
    if family_share(symbols) >= 0.05:
        return Finding(
            "organism", HUMAN, "no column says so; the symbols are written like human genes", (MOUSE,)
        )
    evidence = (
        "nothing in the file says which organism this is: choose it. Until then Homo sapiens is assumed"
    )
    return Finding("organism", HUMAN, evidence, (MOUSE,), "warning")
