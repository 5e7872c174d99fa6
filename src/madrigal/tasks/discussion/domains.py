"""Two kinds of embedded questions that share no problem, so that training on one can be tested on the other.

Knows: how a problem's kind says what it begins with. Does not know: agents, prompts.

Both are told in the same words and solved by the same steps; they differ in how a problem is set up:

    groups    equal groups first, then one or two steps: "Tom buys 4 boxes with 6 cards each. Then ..."
    amounts   an amount first, then two or three steps: "Tom has 24 cards. Then ..."
"""

from __future__ import annotations

import functools
import random
from typing import Any, Literal

from madrigal.starter.corpora import arithmetic
from madrigal.starter.corpora.grammar import example_set
from madrigal.types import Example, Split

Domain = Literal["all", "groups", "amounts"]


def domain_of(kind: str) -> Domain:
    """The domain of an embedded problem's kind.

    >>> domain_of("collect|groups,double"), domain_of("money|start,add,half")
    ('groups', 'amounts')
    """
    return "groups" if kind.partition("|")[2].startswith("groups") else "amounts"


@functools.cache
def examples(domain: Domain, split: Split) -> tuple[Example, ...]:
    """The fixed examples of a domain; held-out kinds are those of the whole corpus."""
    if domain == "all":
        return arithmetic.examples(split)
    return example_set(f"arithmetic/{domain}", split, arithmetic.NUM_EXAMPLES[split], functools.partial(_draw, domain))


def _draw(domain: Domain, rng: random.Random, split: Split) -> dict[str, Any]:
    while domain_of((drawn := arithmetic.problem(rng, split))["kind"]) != domain:
        pass
    return drawn
