"""Madrigal trains teams of language models to collaborate."""
