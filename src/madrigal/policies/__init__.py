"""Policies: who answers. Local models (whole or as adapters on a shared base) and scripted ones."""
