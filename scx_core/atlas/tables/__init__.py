"""The tables of an atlas: made from the sums of the pass, stored as Parquet, opened and searched."""
