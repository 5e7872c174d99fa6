"""The embedded briefs: seven sorts, four of programs and three of sites, with files that do what each asks."""

from __future__ import annotations

import functools
import random
from typing import Any

from madrigal.tasks.embedded.grammar import example_set
from madrigal.tasks.project import programs, sites
from madrigal.types import Example, Split

PROGRAMS, SITES = tuple(programs.SORTS), tuple(sites.TOPICS)
NUM_EXAMPLES = {"train": 350, "validation": 70, "test": 140}


@functools.cache
def examples(split: Split) -> tuple[Example, ...]:
    """The fixed example set of a split; kinds are held out, sorts are not."""
    return example_set("project", split, NUM_EXAMPLES[split], brief)


def brief(rng: random.Random, split: Split) -> dict[str, Any]:
    """One fresh brief; see `brief.brief_of` for its fields, and `files` for a project that does what it asks."""
    sort = rng.choice((*PROGRAMS, *SITES))
    return programs.program(rng, split, sort) if sort in PROGRAMS else sites.site(rng, split, sort)
