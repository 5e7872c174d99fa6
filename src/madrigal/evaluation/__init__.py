"""Evaluation: what a team is worth on examples it has not seen."""
