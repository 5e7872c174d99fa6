"""Synthetic corpora: problems, and reference answers in deliberately mixed styles to pre-train small models on."""
