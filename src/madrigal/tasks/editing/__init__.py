"""Structured edits: agents change one program by operations instead of retyping it."""
