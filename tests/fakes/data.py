"""Data sets that are too large or not ours to ship; tests that read them are skipped where they are not there."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("MADRIGAL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
HUMAN_EVAL = DATA / "HumanEval.jsonl.gz"
