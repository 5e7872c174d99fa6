"""Maths as pure functions on tensors and lists."""
