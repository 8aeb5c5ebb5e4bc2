"""Commands that train, measure and compare sets."""
