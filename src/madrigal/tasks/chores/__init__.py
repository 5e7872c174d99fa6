"""Chores that equal agents divide among themselves."""
