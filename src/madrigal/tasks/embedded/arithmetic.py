"""Word problems of two or three steps on whole numbers up to 100, with worked answers as in GSM8K.

An instance: {"question": "Tom has 12 apples. He buys 5 more. ... How many apples does Tom have now?",
"answer": "12+5=17. 17*2=34.\\n#### 34", "kind": "collect|add,double"}. The kind is the scene and the order of the
steps; every step occurs in training, in every scene, in other orders.
"""

from __future__ import annotations

import functools
import itertools
import random
from typing import Any

from madrigal.tasks.embedded.grammar import draw_kind, example_set, expand
from madrigal.types import Example, Split

NUM_EXAMPLES = {"train": 800, "validation": 200, "test": 200}
_NAMES = ("Anna", "Maria", "Julia", "Emma", "Sara", "Nina", "Tom", "David", "Peter", "Mark", "Leo", "Sam")
_THINGS = {
    "collect": ("apples", "stickers", "shells", "marbles", "stamps", "cards"),
    "money": ("dollars", "coins", "euros"),
    "distance": ("miles", "kilometers", "laps"),
    "reading": ("pages", "chapters", "stories"),
    "baking": ("cookies", "muffins", "rolls", "pies"),
    "work": ("hours", "shifts", "tasks"),
}
_STARTS = {
    "collect": "{name} [has|finds|owns] {a} {things}.",
    "money": "{name} [has|earns|saves] {a} {things}.",
    "distance": "{name} [walks|runs|rides] {a} {things} on Monday.",
    "reading": "{name} [reads|finishes] {a} {things} on Monday.",
    "baking": "{name} [bakes|makes] {a} {things}.",
    "work": "{name} [plans|lists] {a} {things}.",
}
_GROUPS = {
    "collect": "{name} buys {a} [boxes|bags] with {b} {things} each.",
    "money": "{name} works {a} days for {b} {things} a day.",
    "distance": "{name} [walks|runs] {b} {things} a day for {a} days.",
    "reading": "{name} reads {b} {things} a day for {a} days.",
    "baking": "{name} [bakes|fills] {a} trays with {b} {things} each.",
    "work": "{name} plans {b} {things} a day for {a} days.",
}
_STEPS = {
    "add": {
        "collect": "[Then|Later] [a friend gives|someone brings] {b} more.",
        "money": "[Then|Later] {name} gets {b} more.",
        "distance": "[Then|Later] {name} goes {b} more.",
        "reading": "[Then|Later] {name} reads {b} more.",
        "baking": "[Then|Later] {name} adds {b} more.",
        "work": "[Then|Later] the boss adds {b} more.",
    },
    "sub": {
        "collect": "[Then|Later] {name} [loses|gives away] {b}.",
        "money": "[Then|Later] {name} [spends|pays] {b}.",
        "distance": "[A friend|A sister] goes {b} less.",
        "reading": "[A friend|A sister] reads {b} less.",
        "baking": "[Then|Later] {name} [sells|eats] {b}.",
        "work": "[Then|Later] {name} drops {b}.",
    },
    "double": dict.fromkeys(_THINGS, "[After that|Next] the number doubles."),
    "triple": dict.fromkeys(_THINGS, "[After that|Next] the number triples."),
    "half": dict.fromkeys(_THINGS, "[After that|Next] only half remains."),
    "share": dict.fromkeys(_THINGS, "[After that|Next] it is shared equally by {b} people."),
}
_ASK = ("How many {things} [are there|is it] [now|in the end]?", "How many {things} is that [now|in the end]?")


@functools.cache
def examples(split: Split) -> tuple[Example, ...]:
    """The fixed example set of a split."""
    return example_set("arithmetic", split, NUM_EXAMPLES[split], problem)


def problem(rng: random.Random, split: Split) -> dict[str, Any]:
    """One fresh word problem with its worked answer."""
    kind = draw_kind(rng, split, lambda r: r.choice(kinds()))
    while (drawn := _draw(kind, rng)) is None:
        pass
    sentences, work, value = drawn
    return {"question": " ".join(sentences), "answer": f"{work}\n#### {value}", "kind": kind}


@functools.cache
def kinds() -> tuple[str, ...]:
    """Every scene with every chain of two or three steps; the chain starts with a number or with equal groups."""
    chains: list[tuple[str, ...]] = [("groups", step) for step in _STEPS]
    chains += [("groups", *pair) for pair in itertools.permutations(_STEPS, 2)]
    chains += [("start", *pair) for pair in itertools.permutations(_STEPS, 2)]
    chains += [("start", *three) for three in itertools.permutations(_STEPS, 3)]
    return tuple(f"{scene}|{','.join(chain)}" for scene in _THINGS for chain in chains)


def answer_text(example: Example) -> str:
    """The reference answer: explicit steps, then the result.

    >>> answer_text(Example("x", {"answer": "48/2=24. 48+24=72.\\n#### 72"}))
    '48/2=24. 48+24=72. The answer is 72.'
    """
    work, value = example.data["answer"].split("\n#### ")
    return f"{work} The answer is {value}."


def _draw(kind: str, rng: random.Random) -> tuple[list[str], str, int] | None:
    scene, chain = kind.split("|")
    first, *steps = chain.split(",")
    name, things = rng.choice(_NAMES), rng.choice(_THINGS[scene])
    a, b = (rng.randint(2, 9), rng.randint(2, 9)) if first == "groups" else (rng.randint(3, 40), 0)
    value, work = (a * b, [f"{a}*{b}={a * b}."]) if first == "groups" else (a, [])
    opening = (_GROUPS if first == "groups" else _STARTS)[scene]
    sentences = [expand(opening, rng, {"name": name, "things": things, "a": str(a), "b": str(b)})]
    for step in steps:
        taken = _take(step, value, rng)
        if taken is None or not 1 <= taken[1] <= 100:
            return None
        operand, result, sign = taken
        work.append(f"{value}{sign}{operand}={result}.")
        slots = {"name": name, "things": things, "b": str(operand)}
        sentences.append(expand(_STEPS[step][scene], rng, slots))
        value = result
    sentences.append(expand(rng.choice(_ASK), rng, {"things": things}))
    return sentences, " ".join(work), value


def _take(step: str, value: int, rng: random.Random) -> tuple[int, int, str] | None:
    """One step from `value`: operand, result and sign; None where it does not come out even."""
    if step == "add":
        operand = rng.randint(2, 30)
        return operand, value + operand, "+"
    if step == "sub":
        operand = rng.randint(1, max(1, min(30, value - 1)))
        return operand, value - operand, "-"
    if step in ("double", "triple"):
        factor = 2 if step == "double" else 3
        return factor, value * factor, "*"
    divisor = 2 if step == "half" else rng.randint(2, 6)
    return None if value % divisor else (divisor, value // divisor, "/")
