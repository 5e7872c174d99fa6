"""Coding together: a helper function and the main function that uses it."""
