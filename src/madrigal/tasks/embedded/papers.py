"""Abstracts of imaginary papers, and introductions to them in two parts of mixed length.

An instance: {"abstract": "Progress in robot grasping is limited because labels are scarce. ...",
"kind": "robot grasping|particle filter", "slots": {...}}. The kind is the field and the method. Introductions vary in
length and in transition words at random; which lengths of the two parts fit together is left to be learned.
"""

from __future__ import annotations

import functools
import random
from typing import Any, Literal

from madrigal.tasks.embedded import papers_lexicon as lex
from madrigal.tasks.embedded.grammar import capitalized, draw_kind, example_set, expand, with_opening
from madrigal.tasks.embedded.posts_lexicon import TRANSITIONS
from madrigal.types import Example, Split

NUM_EXAMPLES = {"train": 800, "validation": 200, "test": 200}
Part = Literal["background", "method"]
_POOLS = {"background": lex.BACKGROUND, "method": lex.METHOD}
_OPENINGS = tuple(o for category in TRANSITIONS.values() for o in category if len(o.split()) < 4 or "time" in o)


@functools.cache
def examples(split: Split) -> tuple[Example, ...]:
    """The fixed example set of a split."""
    return example_set("papers", split, NUM_EXAMPLES[split], problem)


def problem(rng: random.Random, split: Split) -> dict[str, Any]:
    """One fresh abstract of 50 to 80 words in six sentences."""
    kind = draw_kind(rng, split, lambda r: f"{r.choice(lex.FIELDS)}|{r.choice(lex.METHODS)}")
    field, method = kind.split("|")
    while True:
        slots = {
            "field": field,
            "method": method,
            "problem": rng.choice(lex.PROBLEMS),
            "data": rng.choice(lex.DATA),
            "metric": rng.choice(lex.METRICS),
            "use": rng.choice(lex.USES),
            "idea": rng.choice(lex.IDEAS),
            "num": str(rng.randint(3, 60)),
            "small": str(rng.randint(2, 5)),
        }
        abstract = " ".join(expand(rng.choice(forms), rng, slots) for forms in lex.ABSTRACT)
        if 50 <= len(abstract.split()) <= 80:
            return {"abstract": abstract, "kind": kind, "slots": slots}


def introduction(example: Example, rng: random.Random, part: Part = "background") -> str:
    """A reference answer of 70 to 230 words; no sentence form occurs twice in it."""
    wanted = min(222, max(70, round(rng.gauss(147, 34))))
    sentences: list[str] = []
    for form in _ordered(_POOLS[part], rng):
        if sum(len(s.split()) for s in sentences) >= wanted - 4:
            break
        sentence = capitalized(expand(form, rng, example.data["slots"]))
        opens = sentences and rng.random() < 0.16
        sentences.append(with_opening(rng.choice(_OPENINGS), sentence) if opens else sentence)
    return " ".join(sentences)


def _ordered(pool: tuple[str, ...], rng: random.Random) -> list[str]:
    """All forms, shuffled a little: early ones stay early, so that texts have a beginning and an end."""
    keyed = sorted((index + rng.uniform(0, 14), form) for index, form in enumerate(pool))
    return [form for _, form in keyed]
