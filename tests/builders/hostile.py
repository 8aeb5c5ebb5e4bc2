"""The one list of hostile texts: names that attack some renderer, parser, spreadsheet, shell or file system.

Every page and every export is shown all of them at once, as labels, genes, names of features and of files.
`RAW` are the pieces that may stand unescaped in no HTML; `FETCHED` in no Markdown.
"""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scx_core.cells import open_cells

HOSTILE_GENE = "<img src=x onerror=alert(1)>"
HOSTILE_LABEL = "</script><script>alert(2)</script>"
HOSTILE_TEXTS = (
    HOSTILE_GENE,
    HOSTILE_LABEL,
    '"quo\'te"',
    "ΔΨ-基因-é",
    "NEW\nLINE\r\x00\x1b[31m",
    "$x^2$ $",
    "=1+2",
    "%s {0} {{x}}",
    "a\u202eb\u2028c",
    "href=x",
    # markup
    "<svg/onload=alert(3)>",
    "<iframe src=http://evil.test></iframe>",
    '"><body onload=alert(4)>',
    "' onmouseover='alert(5)",
    "--><!--",
    "]]><![CDATA[",
    "<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>&y;",
    "&lt;b&gt;&amp;",
    "<style>*{display:none}</style>",
    "<a href=javascript:alert(6)>x</a>",
    "<base href=http://evil.test/>",
    "</textarea></title></iframe>",
    # Markdown and Streamlit's directives
    "![a](http://evil.test/a.png)",
    "[a](javascript:alert(7))",
    "<http://evil.test>",
    "[a]: http://evil.test",
    ":red[x] :material/home: **b** _i_ `c`",
    "# | a | b |\n|---|---|",
    "~~a~~ ```\nb",
    # spreadsheets and tables
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "a,b;c\td",
    # file systems and shells
    "../../../etc/passwd",
    "..\\..\\win.ini",
    "CON",
    "$(touch x) `y` ; rm -rf z",
    # numbers and lookalikes
    "nan",
    "1e999",
    # characters and templates
    "\ufeffa\u200bb\u0301\u0301\u0301",
    "\U0001f9ec\U0001f469\u200d\U0001f52c",
    "__proto__",
    "constructor",
    "{{7*7}} ${7*7} #{7}",
    r"\input{x} \def\x{} \u0041",
    "W" * 400,
)
RAW = (
    "<img src=x",
    "<script>alert",
    "<svg/on",
    "<iframe src=http",
    "<body on",
    "<style>*",
    "<a href=java",
    "<base ",
)
FETCHED = ("](http://evil", "](javascript", "<http://evil", ":red[x]")
FILE = "<img src=x onerror=alert(1)> ![a](javascript:x) :red[x] $x$ {0}.h5ad"
# An AnnData file holds no NUL.
NAMES = [text.replace("\x00", "") for text in HOSTILE_TEXTS]


def hostile_file(folder: Path) -> Path:
    """Some embedded cells, called anything, and so are genes in the middle of their sentences (the name of
    400 letters, which leaves no room for others, is the last); B cells keep theirs: circuits are traced."""
    table = open_cells("embedded")
    given = np.array([str(one) for one in table.labels], dtype=object)
    b_cells, others = np.flatnonzero(given == "CD19+ B"), np.flatnonzero(given != "CD19+ B")
    rows = np.sort(np.concatenate([b_cells[:40], others[: 2 * len(NAMES)]]))
    matrix, labels = table.rows(rows), given[rows]
    strange = np.flatnonzero(labels != "CD19+ B")
    labels[strange] = [NAMES[k % len(NAMES)] for k in range(len(strange))]
    genes = [str(gene) for gene in table.symbols]
    highest = np.argsort(-np.asarray(matrix[labels == "CD19+ B"].sum(0)).ravel(), kind="stable")
    for place, name in zip([*highest[20 : 20 + 2 * len(NAMES) - 2 : 2], highest[-1]], NAMES, strict=True):
        genes[place] = name
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(labels), "donor": [NAMES[k % 3] for k in range(len(labels))]},
        index=[f"{NAMES[k % len(NAMES)]} {k}" for k in range(len(labels))],
    )
    path = folder / FILE
    ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(path)
    return path
