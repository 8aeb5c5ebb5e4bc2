"""Names of features on the embedded default: true by the atlas' own figures, the same in every circuit."""

from __future__ import annotations

import pytest

from scx_core.atlas.atlas_folder import shipped_root
from scx_core.atlas.feature_naming import book_of, fitting_atlas
from scx_core.atlas.judge.protocol import FIGURES, VerdictThresholds, figures
from scx_core.cells import open_cells
from scx_core.circuits import ConsensusConfig, make_tracer
from scx_core.circuits.feature_names import ANSWER, GENE_SHARE, MANY, PROMPT
from scx_core.figures import to_graphml
from scx_core.language import load_language
from scx_core.transcoders import load_set

SIX = ("CD19+ B", "CD56+ NK", "CD14+ Monocyte", "Dendritic", "CD8+ Cytotoxic T", "CD4+/CD25 T Reg")
STRONGEST = 30


@pytest.fixture(scope="module")
def tracer():
    return make_tracer(load_language("embedded", "cpu"), load_set("embedded"), open_cells("embedded"))


@pytest.fixture(scope="module")
def atlas(tracer, tmp_path_factory):
    """What ships, whatever lies in a runs folder here."""
    parts = {"model": tracer.lm, "transcoders": tracer.transcoders, "data": tracer.table}
    found = fitting_atlas(parts, tmp_path_factory.mktemp("no runs"))
    assert found is not None, "no atlas ships with this model and set: `scx atlas --install` makes it"
    return found


@pytest.fixture(scope="module")
def circuits(tracer):
    """Six types without an atlas: a circuit's own names."""
    return {label: tracer.consensus(label, cfg=ConsensusConfig(cells=12)) for label in SIX}


def strongest(circuit):
    """The features with most influence."""
    features = [node for node in circuit.nodes if node.kind == "feature"]
    return sorted(features, key=lambda node: (-node.influence, node.id))[:STRONGEST]


def test_the_shipped_atlas_is_small():
    files = [path for path in (shipped_root() / "embedded-atlas").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) < 3.3e6


def test_every_name_of_the_atlas_reaches_the_figure_that_it_claims(atlas):
    book = book_of(atlas, "embedded-atlas")
    limits = VerdictThresholds(
        **{k: v for k, v in atlas.meta["thresholds"].items() if k in VerdictThresholds._fields}
    )
    rows = figures(atlas.features).set_index(["layer", "feature"])
    genes = atlas.table("genes").set_index(["layer", "feature"])
    assert len(book.names) > 1000
    for key, name in book.names.items():
        row = rows.loc[key]
        if name.kind == "gene":
            named = genes.loc[[key]].set_index("gene")["share"].reindex(name.text.split(", "))
            assert named.sum() >= GENE_SHARE and named.sum() == pytest.approx(name.share, abs=1e-5), name
        elif name.kind in FIGURES:
            assert row[FIGURES[name.kind]] >= limits.of(name.kind), name
        elif name.kind == "rare" and name.share is not None:
            assert name.share >= GENE_SHARE
        elif name.kind == MANY:
            assert name.text == "genes and prompt" or row["gene"] >= 0.75


@pytest.mark.slow
def test_names_of_the_strongest_features_of_six_types_are_true(atlas, circuits):
    """A circuit's own names, held against the atlas: at the gene that names it a feature has a quarter of its
    activation in these cells; what is not named after a gene says where it is."""
    shares = atlas.table("genes").set_index(["layer", "feature", "gene"])["share"]
    seen = 0
    for label, circuit in circuits.items():
        assert circuit.provenance["names"] == "names from this circuit"
        for node in strongest(circuit):
            assert node.name and node.name_source == "circuit"
            assert node.name_kind in ("gene", PROMPT, ANSWER, MANY)
            if node.name_kind == "gene":
                seen += 1
                assert node.gene == node.name and node.name_share >= GENE_SHARE
                assert shares.get((node.layer, node.feature, node.name), 0.0) > 0, (label, node)
            else:
                assert node.gene is None
    assert seen > 0


@pytest.mark.slow
def test_a_feature_has_one_name_in_all_circuits_of_an_atlas(tracer, atlas, circuits):
    from scx_core.circuits.feature_names import with_names

    book = book_of(atlas, "embedded-atlas")
    named: dict[tuple[int, int], set[str]] = {}
    drivers: dict[tuple[int, int], set[str]] = {}
    for circuit in circuits.values():
        found = with_names(circuit, book)
        assert found.provenance["names"].startswith("names from atlas embedded-atlas@")
        for node in strongest(found):
            key = (node.layer, node.feature)
            named.setdefault(key, set()).add(node.name)
            drivers.setdefault(key, set()).add(node.driven_by)
            assert node.name == book.names[key].text
        assert b"most from" in to_graphml(found)
    assert all(len(names) == 1 for names in named.values())
    assert any(len(found) > 1 for found in drivers.values()), "drivers do differ between types"


def test_one_cell_names_features_after_their_tokens(tracer):
    row = int(tracer.draw("CD19+ B", ConsensusConfig(cells=2))[0])
    circuit, cell = tracer.cell(row, label="CD19+ B"), tracer.encode([row])[0]
    genes = cell.gene_at()
    for node in circuit.nodes:
        if node.kind != "feature":
            continue
        at = genes[node.position] if node.position < len(genes) else None
        assert node.gene == at
        assert (
            node.name.endswith(at) if at else node.name.split(" “")[0] in ("prompt word", "answer position")
        )
        answer = node.name.startswith("answer position")
        assert answer == (at is None and node.position >= len(cell.ids) - 1)
    last = [n for n in circuit.nodes if n.kind == "feature" and n.layer == tracer.lm.facts.n_layers - 1]
    assert {n.driven_by for n in last} - {None}
