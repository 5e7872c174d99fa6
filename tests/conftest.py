"""Before anything is imported: one thread, and shapes checked at run time in the modules that are pure maths."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

CHECKED = (
    "madrigal.maths.advantages",
    "madrigal.algorithms.influence",
    "madrigal.algorithms.mutual_information",
    "madrigal.maths.batch",
    "madrigal.maths.losses",
    "madrigal.verifier.training",
)
install_import_hook(CHECKED, "beartype.beartype")
