"""Where cells come from: AnnData, zarr, 10x, label tables, uploads; each read with care."""
