"""Engines: how a policy's answers are computed."""
