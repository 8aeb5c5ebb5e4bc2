"""What every feature means: one pass over cells, one row a feature, with the evidence and its controls.

In come a model, a unit source (transcoder features, SAE features, raw MLP neurons) and cells; out goes an
`Atlas`: a folder of Parquet tables with a verdict for each feature. `collect` is the pass, `judge` the
verdicts (written down in docs/features.md), `tables` what is stored and read again.

The data model. A folder holds one unit source; `neurons/` (and others, by name) inside it are atlases of the
same form for the units that are held beside it. All tables are sorted by layer, feature.

atlas.json         provenance, unit source, sizes, thresholds, bins, number of cells and tokens
features.parquet   one row a feature:
                   layer, feature, verdict, score, label, stable (the other half says the same verdict)
                   tokens, cells (where it fires), frequency (of tokens), mass, mean, maximum (activations);
                   q50, q90, q99 (of activations that are not 0)
                   prompt, gene, answer (share of mass by token class)
                   top_gene, genes (names, strongest first, blanks between), top5, n_half (genes that hold
                   half of the mass, -1: all of them do not)
                   token_share (of the variance of its activations that the token alone explains)
                   family, family_share, piece, piece_share, top5_pieces, spelling, first_piece
                   cell_type, type_share, donor, donor_share, rank_bin, ranks, rank_share
                   gene_set, set_share (filled where there is enrichment)
                   writes (the token that it pushes most), answer_pushed (the label that it pushes most)
genes.parquet      layer, feature, gene, mass, share (the largest of each feature)
readers.parquet    the same, sorted by gene: which features read it
families.parquet   layer, feature, family, mass, share
pieces.parquet     layer, feature, token, text, mass, share, genes (in how many genes the piece stands)
types.parquet      layer, feature, cell_type, mass, share (of mass per token: types of unequal size compare)
donors.parquet     layer, feature, donor, mass, share (likewise)
ranks.parquet      layer, feature, rank_bin, first, last, mass, share (likewise)
histogram.parquet  layer, feature, low, high, tokens (bins of activations that are not empty)
examples.parquet   layer, feature, kind ("top": the strongest, one a cell; "sample": drawn at random among
                   all tokens where it fires), order, row, cell, cell_type, position, gene, value, start (of
                   the context), tokens, values (the context's token ids and the activations there)
sets.parquet       layer, feature, gene_set, source, shared (genes), list (its genes that were tested), size
                   (of the set), genes (shared ones, blanks between), p, q (Benjamini-Hochberg over all
                   tests), share (of the feature's mass); empty until `with_gene_sets`
writes.parquet     layer, feature, kind ("token", "answer"), token, text, weight
shares.parquet     layer (-1: all), data ("real", "activations shuffled", "genes shuffled"; "other half": the
                   real data that the thresholds were chosen on; "gene names permuted": of gene sets only),
                   verdict, share, features (live ones)
baselines.parquet  one row a unit of each baseline: source ("random1", …, "embedding", "onehot"), layer,
                   feature, the figures that verdicts rest on, verdict, genes (ten strongest)
curve.parquet      cells, source ("main", the baselines, what is held beside), layer (-1: all), measure
                   (`protocol.MEASURES`), share, features (live ones): after so many cells of the pass
slots.parquet      every place that a token stood in: class, gene, piece (0: the gene's first), token, text,
                   tokens (how many stood there)
labels.jsonl       labels that people gave: layer, feature, label, author, time

Mass is the sum of activations, position 0 left out (an attention sink in models of the Pythia kind). Counts,
quantiles, mass and the long tables are of all cells. Verdict, score and the shares they rest on (prompt to
rank_share) are of the half of the cells that the thresholds were not chosen on; gene sets are of all cells,
their control is the permutation of names.
"""

from scx_core.atlas.annotate import annotate
from scx_core.atlas.atlas_folder import atlas_folder, atlas_of, saved_atlas
from scx_core.atlas.collect.units import CoderUnits
from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.gene_sets.enrich import EnrichConfig
from scx_core.atlas.gene_sets.rule import RuleConfig, set_rule, with_gene_sets
from scx_core.atlas.gene_sets.set_readers import MarkerColumns, open_gene_sets, write_gmt
from scx_core.atlas.judge.excess import excess, report
from scx_core.atlas.judge.protocol import VERDICTS
from scx_core.atlas.make import NEURONS, make_atlas
from scx_core.atlas.match.common_cells import Side
from scx_core.atlas.match.matching import Match, MatchConfig, match_sets
from scx_core.atlas.tables.atlas import Atlas, Feature
from scx_core.atlas.tables.find import FindConfig
