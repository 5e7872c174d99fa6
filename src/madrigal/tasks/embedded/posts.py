"""Posts in which somebody asks strangers for advice, and summaries of them in mixed styles.

An example: {"post": "I live with my sister Anna in a small apartment. So, yesterday she sold my bike online. ...",
"kind": "sister|sell", "facts": [...], "slots": {...}}. The kind is who did what; every person and every deed of the
test kinds occurs in training, but never together. Summaries vary in length, in facts and in transition words at random:
which pairs of styles earn a reward is left to be learned.
"""

from __future__ import annotations

import functools
import random
from typing import Any, Literal

from madrigal.tasks.embedded import posts_lexicon as lex
from madrigal.tasks.embedded.grammar import capitalized, draw_kind, example_set, expand, pick_some, with_opening
from madrigal.types import Example, Split

NUM_EXAMPLES = {"train": 800, "validation": 200, "test": 200}
Style = Literal["concise", "detailed"]
_ALWAYS = ("setting", "conflict", "question")


@functools.cache
def examples(split: Split) -> tuple[Example, ...]:
    """The fixed example set of a split."""
    return example_set("posts", split, NUM_EXAMPLES[split], problem)


def problem(rng: random.Random, split: Split) -> dict[str, Any]:
    """One fresh post of 45 to 80 words: 6 to 9 facts in their natural order."""
    kind = draw_kind(rng, split, lambda r: f"{r.choice(lex.RELATIONS)}|{r.choice(tuple(lex.CONFLICTS))}")
    while True:
        slots = _slots(kind, rng)
        optional = [fact for fact in lex.FACTS if fact not in _ALWAYS]
        chosen = set(_ALWAYS) | set(rng.sample(optional, rng.randint(3, 6)))
        facts = [fact for fact in lex.FACTS if fact in chosen]
        post = " ".join(capitalized(expand(rng.choice(lex.FACTS[f][0]), rng, slots).replace(" .", ".")) for f in facts)
        if 45 <= len(post.split()) <= 80:
            return {"post": post, "kind": kind, "facts": facts, "slots": slots}


def summary(example: Example, rng: random.Random, style: Style = "concise") -> str:
    """A reference answer: 6 to 45 words for a concise one, 12 to 75 for a detailed one."""
    low, high = (6, 45) if style == "concise" else (12, 75)
    while True:
        text = _concise(example, rng) if style == "concise" else _detailed(example, rng)
        if low <= len(text.split()) <= high:
            return text


def _slots(kind: str, rng: random.Random) -> dict[str, str]:
    relation, deed = kind.split("|")
    pronoun = "she" if relation in lex.WOMEN else "he" if relation in lex.MEN else rng.choice(("she", "he"))
    option, other = rng.sample(lex.OPTIONS, 2)
    slots = {
        "relation": relation,
        "pronoun": pronoun,
        "pronoun_cap": pronoun.capitalize(),
        "name": rng.choice(lex.NAMES[pronoun]),
        "object": rng.choice(lex.OBJECTS),
        "place": rng.choice(lex.PLACES),
        "time": rng.choice(lex.TIMES),
        "span": rng.choice(lex.SPANS),
        "excuse": rng.choice(lex.EXCUSES),
        "reaction": rng.choice(lex.REACTIONS),
        "feeling": rng.choice(lex.FEELINGS),
        "third": rng.choice(lex.THIRDS),
        "opinion": rng.choice(lex.OPINIONS),
        "outcome": rng.choice(lex.OUTCOMES),
        "option": option,
        "other": other,
    }
    slots["conflict"] = rng.choice(lex.CONFLICTS[deed]).format_map(slots)
    return slots


def _sentence(fact: str, form: int, rng: random.Random, slots: dict[str, str]) -> str:
    return capitalized(expand(rng.choice(lex.FACTS[fact][form]), rng, slots))


def _concise(example: Example, rng: random.Random) -> str:
    facts: list[str] = example.data["facts"]
    num = rng.randint(1, 5)
    others = [fact for fact in facts if fact != "conflict"]
    chosen = {"conflict", *rng.sample(others, num - 1)}
    return " ".join(
        _sentence(f, 1 if rng.random() < 0.6 else 2, rng, example.data["slots"]) for f in facts if f in chosen
    )


def _detailed(example: Example, rng: random.Random) -> str:
    facts: list[str] = example.data["facts"]
    chosen = pick_some(rng, facts, rng.randint(2, 7))
    sentences = [_sentence(f, 2 if rng.random() < 0.5 else 1, rng, example.data["slots"]) for f in chosen]
    num = min(rng.choices(range(6), (30, 33, 20, 10, 5, 2))[0], len(sentences))
    categories = rng.sample(tuple(lex.TRANSITIONS), num)
    for place, category in zip(rng.sample(range(len(sentences)), num), categories, strict=True):
        sentences[place] = with_opening(rng.choice(lex.TRANSITIONS[category]), sentences[place])
    return " ".join(sentences)
