"""Models that are loaded again and again: the library reads the files of each twice, and a copy is made after that."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from madrigal.policies import local

KEPT = 8  # models, the last ones that were asked for
_seen, _kept = set[Any](), OrderedDict[Any, Any]()


class Copied:
    """In place of `AutoModelForCausalLM`, whose loading takes most of the time of a tiny run."""

    @staticmethod
    def from_pretrained(name: str, **settings: Any) -> Any:
        """As the library has it. Other files, or other settings, are another model."""
        files = sorted(Path(name).iterdir()) if Path(name).is_dir() else []
        stats = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
        key = name, repr(sorted(settings.items(), key=str)), stats
        if files and key in _kept:
            _kept.move_to_end(key)
            return copy.deepcopy(_kept[key])
        loaded = AutoModelForCausalLM.from_pretrained(name, **settings)
        if key in _seen:
            _kept[key] = copy.deepcopy(loaded)
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
        _seen.add(key)
        return loaded


def install() -> None:
    local.AutoModelForCausalLM = Copied  # type: ignore[misc, assignment]
