"""`scx annotate`: what is written is what the model does, the rest of the file stays, scanpy reads it."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scx_core.atlas import Atlas, Side
from scx_core.atlas.annotate import annotate
from scx_core.cells import open_cells
from scx_core.cli import main
from scx_core.errors import ScxError
from scx_core.language import encode_cells, load_language, mlp_io
from scx_core.transcoders import load_set
from tests.cli.conftest import call


@pytest.fixture(scope="module")
def written(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotate")
    call("atlas", *files.all, "--no-baseline", "--out", folder / "atlas", folder)
    words = (
        "annotate",
        *files.all,
        "--atlas",
        folder / "atlas",
        "--obs",
        "1:3",
        "--out",
        folder / "new.h5ad",
    )
    call(*words, folder)
    return folder


def test_everything_else_is_unchanged(files, written):
    old, new = anndata.read_h5ad(files.data[1]), anndata.read_h5ad(written / "new.h5ad")
    pd.testing.assert_frame_equal(new.obs.drop(columns="scx L1·3"), old.obs)
    pd.testing.assert_frame_equal(new.var, old.var)
    assert (new.X != old.X).nnz == 0
    assert set(new.obsm) == {"scx_features", "scx_features_max"} and set(new.varm) == {"scx_feature_mass"}


def test_activations_are_those_of_the_model(files, written):
    new = anndata.read_h5ad(written / "new.h5ad")
    lm = load_language(files.model[1], "cpu")
    coders, table = load_set(files.transcoders[1], lm.device, lm.dtype), open_cells(files.data[1])
    names = new.uns["scx"]["names"].tolist()
    mass = np.zeros((table.n_genes, len(names)))
    for row in range(table.n_cells):
        cell = encode_cells(lm, table, np.array([row]))[0]
        ids = torch.tensor([cell.ids])
        x = mlp_io(lm, ids, torch.ones_like(ids)).inputs
        z = np.stack(
            [
                coders.layers[int(one[1])].encode(x[int(one[1])][0])[:, int(one.split("·")[1])].numpy()
                for one in names
            ],
            axis=1,
        )
        np.testing.assert_allclose(new.obsm["scx_features"][row].toarray()[0], z[1:].mean(0), atol=1e-5)
        np.testing.assert_allclose(new.obsm["scx_features_max"][row].toarray()[0], z[1:].max(0), atol=1e-5)
        for span in cell.spans:
            mass[table.symbols.tolist().index(span.gene)] += z[max(span.start, 1) : span.end].sum(0)
    np.testing.assert_allclose(new.varm["scx_feature_mass"].toarray(), mass, rtol=1e-4, atol=1e-4)
    at = names.index("L1·3")
    np.testing.assert_allclose(new.obs["scx L1·3"], new.obsm["scx_features"][:, [at]].toarray().ravel())


def test_verdicts_go_with_the_names(written):
    new = anndata.read_h5ad(written / "new.h5ad")
    table, features = new.uns["scx"]["features"], Atlas.open(written / "atlas").features
    assert table.index.tolist() == new.uns["scx"]["names"].tolist()
    known = features.set_index(["layer", "feature"])["verdict"].astype(str)
    assert table["verdict"].tolist() == [
        known[pair] for pair in zip(table["layer"], table["feature"], strict=True)
    ]


def test_chosen_features_and_cells_without_genes(files):
    adata = anndata.read_h5ad(files.data[1])
    dense = adata.X.toarray()
    dense[2] = 0
    adata.X = sparse.csr_matrix(dense)
    table = open_cells(adata, require_labels=False)
    lm = load_language(files.model[1], "cpu")
    side = Side(lm, load_set(files.transcoders[1], lm.device, lm.dtype))
    made = annotate(adata, side, table, features=[(0, 2), (1, 5)])
    assert made.uns["scx"]["names"].tolist() == ["L0·2", "L1·5"]
    assert made.obsm["scx_features"].shape == (adata.n_obs, 2) and made.obsm["scx_features"][2].nnz == 0
    assert "scx" not in adata.uns and not adata.obsm
    with pytest.raises(ScxError, match="no feature 9999"):
        annotate(adata, side, table, features=[(0, 9999)])
    with pytest.raises(ScxError, match="The table has 40 cells"):
        annotate(adata[:5].copy(), side, table)


def test_what_does_not_fit_is_one_line(files, capsys):
    assert main(["annotate", *files.all, "--out", files.data[1], "--quiet"]) == 2
    assert main(["annotate", *files.all, "--out", "x.h5ad", "--obs", "12", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 2 and "is the file that is read" in said and "LAYER:NUMBER" in said
