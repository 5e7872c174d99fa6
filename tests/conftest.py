"""Before anything is imported: one thread, and shapes checked at run time in the modules that are pure maths."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

install_import_hook(["madrigal.advantages", "madrigal.losses", "madrigal.batch"], "beartype.beartype")
