"""Discussing a question with a checkable answer."""
