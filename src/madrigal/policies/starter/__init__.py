"""Starter models: tiny generalists, made from synthetic corpora, on which a whole team trains on a laptop.

Knows: where the models lie.
Does not know: how they were made (pretrain), what they read (corpora), how they are loaded.
"""

from __future__ import annotations

from pathlib import Path

from madrigal.types import ConfigError

SIZES = ("small", "large")


def model_path(size: str) -> Path:
    """The folder of a starter model, for `AutoModelForCausalLM.from_pretrained`.

    >>> model_path("small").name
    'small'

    Raises:
        ConfigError: if there is no model of this size.
    """
    if size not in SIZES:
        raise ConfigError(f"starter model: expected a size of {', '.join(SIZES)}, got {size!r}")
    return Path(__file__).parent / "models" / size


__all__ = ["SIZES", "model_path"]
