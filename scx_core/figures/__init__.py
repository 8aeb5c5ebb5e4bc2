"""Figures: a traced circuit as something to look at and to take away.

In comes a `Circuit` and a `View`; `simplify` computes one `Drawing`, and the page, the printed figure and
the legend all draw exactly that. Out go HTML, PNG, SVG, PDF, GraphML, JSON, Neuronpedia's graph, a networkx
graph, the coloured cell sentence, the gene chart and the gene table, all with their provenance and with
every name escaped.
"""

from scx_core.figures.bars import excess_figure, genes_figure, genes_picture
from scx_core.figures.captions import provenance_line
from scx_core.figures.coloured_text import sentence_html
from scx_core.figures.drawing.drawing import Drawing, Link, Placed, View
from scx_core.figures.drawing.layout import simplify
from scx_core.figures.drawing.select import boxes_of
from scx_core.figures.formats.export import (
    DEFAULT_FORMATS,
    FORMATS,
    export,
    export_bytes,
    file_name,
    mime_type,
    one_file,
    safe_name,
)
from scx_core.figures.formats.html import circuit_page, to_pyvis
from scx_core.figures.formats.network import to_graphml, to_networkx
from scx_core.figures.formats.neuronpedia import neuronpedia_graph, to_neuronpedia
from scx_core.figures.pareto import PARETO_FORMATS, export_comparison, pareto_figure, pareto_picture
from scx_core.figures.picture import circuit_figure, circuit_picture
from scx_core.figures.table import Part, account, gene_table, markers_of, table_csv
