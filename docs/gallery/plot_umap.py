"""
A feature on a UMAP
===================

Activations of a feature, and the gene that it is active at, on scanpy's map of the cells.
"""

import scanpy as sc

import scx_core as scx

adata = scx.tl.annotate(sc.datasets.pbmc68k_reduced(), obs=[(0, 927)])
sc.pl.umap(adata, color=["scx L0·927", "CD74", "bulk_labels"], ncols=2, wspace=0.4)
