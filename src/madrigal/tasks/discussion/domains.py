"""Two kinds of embedded questions that share no problem, so that training on one can be tested on the other.

Both are told in the same words and solved by the same steps; they differ in how a problem is set up:

    groups    equal groups first, then one or two steps: "Tom buys 4 boxes with 6 cards each. Then ..."
    amounts   an amount first, then two or three steps: "Tom has 24 cards. Then ..."
"""

from __future__ import annotations

import functools
import random
from typing import Any, Literal

from madrigal.tasks.embedded import arithmetic
from madrigal.tasks.embedded.grammar import example_set
from madrigal.types import Example, Split

Domain = Literal["all", "groups", "amounts"]
CALCULATIONS = (0, 2, 3)  # of a problem; 0 stands for both


def domain_of(kind: str) -> Domain:
    """The domain of an embedded problem's kind.

    >>> domain_of("collect|groups,double"), domain_of("money|start,add,half")
    ('groups', 'amounts')
    """
    return "groups" if _chain(kind)[0] == "groups" else "amounts"


def calculations_of(kind: str) -> int:
    """How many calculations a problem's kind takes: an amount is given, groups are multiplied first.

    >>> calculations_of("collect|groups,double"), calculations_of("money|start,add,half")
    (2, 2)
    """
    chain = _chain(kind)
    return len(chain) - (chain[0] == "start")


@functools.cache
def examples(domain: Domain, calculations: int, split: Split) -> tuple[Example, ...]:
    """The fixed examples of a domain, of so many calculations; held-out kinds are those of the corpus."""
    if domain == "all" and not calculations:
        return arithmetic.examples(split)
    corpus = f"arithmetic/{domain}" + (f"/{calculations}" if calculations else "")
    draw = functools.partial(problem, domain, calculations)
    return example_set(corpus, split, arithmetic.NUM_EXAMPLES[split], draw)


def problem(domain: Domain, calculations: int, rng: random.Random, split: Split) -> dict[str, Any]:
    """One fresh problem of a domain, of so many calculations."""
    while True:
        drawn = arithmetic.problem(rng, split)
        if domain in ("all", domain_of(drawn["kind"])) and calculations in (0, calculations_of(drawn["kind"])):
            return drawn


def _chain(kind: str) -> list[str]:
    return kind.partition("|")[2].split(",")
