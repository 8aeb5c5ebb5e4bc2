"""Gene sets from Enrichr's libraries through gseapy: an optional extra, and all that needs a network."""

from __future__ import annotations

from typing import Any

from scx_core.atlas.gene_sets.sets import GeneSet, GeneSets, spelling_of, upper_case
from scx_core.cells.choices import did_you_mean
from scx_core.errors import ScxError

ONLINE = "gseapy:"  # in front of a library's name
_ORGANISMS = {"Homo sapiens": "Human", "Mus musculus": "Mouse", "Danio rerio": "Fish"}
_OFFLINE = "Connect to the internet, or give a GMT file of the library."


def download_sets(library: str, organism: str = "Homo sapiens") -> GeneSets:
    """A library of Enrichr by name, such as "GO_Biological_Process_2023".

    Raises ScxError when gseapy is not installed, the network cannot be reached, or there is no such library.
    """
    gseapy = _gseapy()
    of = _ORGANISMS.get(organism)
    if of is None:
        raise ScxError(f"Enrichr has no libraries for {organism}.", "Give a GMT file.")
    try:
        known = list(gseapy.get_library_name(organism=of))
        if library not in known:
            raise ScxError(f"Enrichr has no library {library!r}.", did_you_mean(library, known))
        found = gseapy.parser.download_library(library, organism=of)
    except ScxError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # what requests raises is an OSError
        problem = f"{library} could not be downloaded ({type(error).__name__})."
        raise ScxError(problem, _OFFLINE) from error
    sets = tuple(GeneSet(name, upper_case(genes), "", library) for name, genes in found.items() if genes)
    if not sets:
        raise ScxError(f"The library {library} came back empty.", _OFFLINE)
    return GeneSets(library, sets, spelling_of([gene for genes in found.values() for gene in genes]))


def _gseapy() -> Any:
    try:
        import gseapy
    except ImportError as error:
        raise ScxError(
            "gseapy is not installed, which downloads gene sets.",
            "Install it with `pip install gseapy`, or give a GMT file.",
        ) from error
    return gseapy
