"""What people type for a gene that the data call otherwise: CD numbers, and a few former or common names.

CD numbers are those of the Human Leukocyte Differentiation Antigens workshops (hcdm.org); symbols, former
symbols and common names those of the HUGO Gene Nomenclature Committee (genenames.org). A name that stands for
a molecule of several genes gives all of them.
"""

from __future__ import annotations

from collections.abc import Container

_TABLE = """
CD3 CD3D CD3E CD3G|CD8 CD8A CD8B|CD10 MME|CD11A ITGAL|CD11B ITGAM|CD11C ITGAX|CD13 ANPEP|CD15 FUT4
CD16 FCGR3A FCGR3B|CD18 ITGB2|CD20 MS4A1|CD21 CR2|CD23 FCER2|CD25 IL2RA|CD29 ITGB1|CD31 PECAM1
CD32 FCGR2A FCGR2B|CD39 ENTPD1|CD41 ITGA2B|CD42B GP1BA|CD45 PTPRC|CD45RA PTPRC|CD45RO PTPRC|CD49D ITGA4
CD49F ITGA6|CD51 ITGAV|CD54 ICAM1|CD56 NCAM1|CD57 B3GAT1|CD61 ITGB3|CD62L SELL|CD62E SELE|CD62P SELP
CD64 FCGR1A|CD66B CEACAM8|CD71 TFRC|CD73 NT5E|CD90 THY1|CD94 KLRD1|CD95 FAS|CD103 ITGAE|CD105 ENG|CD106 VCAM1
CD107A LAMP1|CD115 CSF1R|CD117 KIT|CD122 IL2RB|CD123 IL3RA|CD127 IL7R|CD133 PROM1|CD134 TNFRSF4
CD137 TNFRSF9|CD138 SDC1|CD140A PDGFRA|CD140B PDGFRB|CD141 THBD|CD144 CDH5|CD146 MCAM|CD152 CTLA4
CD154 CD40LG|CD159A KLRC1|CD161 KLRB1|CD169 SIGLEC1|CD183 CXCR3|CD184 CXCR4|CD185 CXCR5|CD194 CCR4|CD196 CCR6
CD197 CCR7|CD206 MRC1|CD223 LAG3|CD235A GYPA|CD268 TNFRSF13C|CD269 TNFRSF17|CD279 PDCD1|CD303 CLEC4C
CD304 NRP1|CD309 KDR|CD314 KLRK1|CD324 CDH1|CD326 EPCAM|CD335 NCR1|CD336 NCR2|CD337 NCR3|CD366 HAVCR2
PD-1 PDCD1|PD1 PDCD1|PD-L1 CD274|PDL1 CD274|TIM-3 HAVCR2|TIM3 HAVCR2|CTLA-4 CTLA4|LAG-3 LAG3|NKG2D KLRK1
NKG2A KLRC1|NKP46 NCR1|NKP30 NCR3|BLIMP1 PRDM1|BLIMP-1 PRDM1|BCMA TNFRSF17|HLA-DR HLA-DRA HLA-DRB1
HLA-DP HLA-DPA1 HLA-DPB1|HLA-DQ HLA-DQA1 HLA-DQB1|VE-CADHERIN CDH5|P53 TP53|C-KIT KIT|JCHAIN IGJ|IGJ JCHAIN
AMICA1 JAML|JAML AMICA1|RANTES CCL5|MIP-1A CCL3|MIP-1B CCL4|GRANULYSIN GNLY|PERFORIN PRF1|LYSOZYME LYZ
"""
ALIASES: dict[str, tuple[str, ...]] = {
    name: tuple(genes)
    for name, *genes in (entry.split() for entry in _TABLE.replace("\n", "|").split("|") if entry)
}


def genes_meant(text: str, known: Container[str]) -> tuple[str, ...]:
    """The genes that a person means by `text`, of those that are `known` (upper case): the gene itself, else
    those that the name stands for."""
    wanted = text.strip().upper()
    if wanted in known:
        return (wanted,)
    return tuple(gene for gene in ALIASES.get(wanted, ()) if gene in known)
