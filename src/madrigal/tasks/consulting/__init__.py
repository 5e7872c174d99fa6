"""Specialists and a coordinator who decides whom to ask."""
