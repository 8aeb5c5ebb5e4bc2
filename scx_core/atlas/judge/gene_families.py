"""Gene families by name: a rule on the symbol alone, so that it holds for any table.

The rule, in this order (docs/features.md has it in words):
1. A symbol that is a clone or a placeholder has no family: C19ORF43, LINC00152, AC012345.1, KIAA0040, FAM26F.
2. A symbol that begins with one of `STEMS` belongs to the longest of them: HLA-DRA → HLA-, MT-CO1 → MT-,
   RPL13A → RPL, S100A8 → S100, IGHM → IGH.
3. Else the letters in front of the first digit, when there are at least three of them: EIF4A1 → EIF,
   GZMB has no digit → GZMB alone. CD74, KLF6: two letters are a register ("cluster of differentiation"),
   three are a family.
A family counts only where the table has two genes of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

# Gene families whose names do not part from their members' at a digit, or that are known by two letters.
STEMS = (
    *("HLA-", "MT-", "RPL", "RPS", "MRPL", "MRPS", "IGH", "IGK", "IGL", "TRA", "TRB", "TRD", "TRG"),
    *("S100", "NDUF", "COX", "ATP5", "ATP6", "UQCR", "PSM", "HIST", "HSP", "GZM", "KLR", "KIR", "LILR"),
    *("IFIT", "IFI", "FCER", "FCGR", "C1Q", "MS4A", "MYL", "MYH", "COL", "CCL", "CXCL", "CCR", "CXCR"),
    *("KRT", "SLC", "ZNF", "TUBA", "TUBB", "PPP1", "PPP2", "PTPR", "SERPIN", "TNFRSF", "TNFSF", "HB"),
)
# T-cell receptors and haemoglobins share their stems with other genes (TRADD, HBEGF): only these belong.
ONLY = {
    "TRA": re.compile(r"TRA[CJV]\d*"),
    "TRB": re.compile(r"TRB[CDJV]\d+"),
    "TRD": re.compile(r"TRD[CDJV]\d*"),
    "TRG": re.compile(r"TRG[CJV]\d*"),
    "HB": re.compile(r"HB[ABDEGMQZ]\d?$"),
    "IGH": re.compile(r"IGH[ADEGMJV]"),
    "IGK": re.compile(r"IGK[CJV]"),
    "IGL": re.compile(r"IGL[CJLV]"),
    "COX": re.compile(r"COX\d"),
}
PLACEHOLDER = re.compile(r"(C\d+ORF|CXORF|LINC|LOC\d|KIAA|FAM\d|TMEM\d|A[CFLP]\d{5}|RP\d+-|CT[ABCD]-|MIR\d)")
LETTERS = re.compile(r"([A-Z]{3,})\d")


def stem(symbol: str) -> str | None:
    """The family that a symbol names, None for a gene that stands alone by its name."""
    if PLACEHOLDER.match(symbol):
        return None
    found = [s for s in STEMS if symbol.startswith(s) and (s not in ONLY or ONLY[s].match(symbol))]
    if found:
        return max(found, key=len)
    letters = LETTERS.match(symbol)
    return letters.group(1) if letters else None


def families(symbols: Iterable[str]) -> Mapping[str, str]:
    """Gene → family, for the genes whose family has at least two members among `symbols`."""
    by_gene = {symbol: found for symbol in symbols if (found := stem(symbol))}
    members = Counter(by_gene.values())
    return {symbol: found for symbol, found in by_gene.items() if members[found] > 1}
