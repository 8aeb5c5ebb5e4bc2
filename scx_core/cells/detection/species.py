"""Species by the many ways in which files name them: common and scientific names, taxon ids, assemblies, the
beginnings of Ensembl ids. Free text is none of them: it never becomes a word of a prompt."""

from __future__ import annotations

import re

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
