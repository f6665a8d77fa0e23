"""Corpora: a name → a corpus, whose parts can be read independently."""
