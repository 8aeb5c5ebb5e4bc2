"""The made-up model of 410m dimensions, in memory or in a folder, and a long prompt that is traced in it."""
