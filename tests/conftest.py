"""Before anything is imported: one thread, and shapes checked at run time in the modules that are pure maths."""

from __future__ import annotations

import os

from jaxtyping import install_import_hook

from madrigal.cli import environment

for name, value in {**environment(), "OMP_NUM_THREADS": "1"}.items():
    os.environ.setdefault(name, value)

CHECKED = (
    "madrigal.maths.advantages",
    "madrigal.algorithms.influence",
    "madrigal.algorithms.mutual_information",
    "madrigal.maths.batch",
    "madrigal.maths.losses",
    "madrigal.verifier.training",
)
install_import_hook(CHECKED, "beartype.beartype")
