"""Facts in four subjects, and questions about them; tests ask for a fact in other words than training did."""

from __future__ import annotations

from functools import cache
from typing import Any

from madrigal.tasks.embedded.grammar import kinds_of
from madrigal.types import Example, Split

# Subject: facts as "thing answer", and how they are asked for.
FACTS = {
    "color": (
        "lemon yellow, grass green, sky blue, snow white, coal black, blood red, carrot orange, plum purple",
        (
            "What color is the {}?",
            "Name the color of the {}.",
            "The {} has which color?",
            "Tell me the color of the {}.",
            "In what color is the {}?",
        ),
    ),
    "home": (
        "bee hive, bird nest, dog kennel, horse stable, spider web, bear cave, king castle, pig sty",
        (
            "Where does the {} live?",
            "Name the home of the {}.",
            "The {} lives in what?",
            "Tell me the home of the {}.",
            "What is home to the {}?",
        ),
    ),
    "young": (
        "dog puppy, cat kitten, cow calf, horse foal, sheep lamb, goat kid, hen chick, lion cub",
        (
            "What is the young of the {}?",
            "Name the child of the {}.",
            "The {} has what young?",
            "Tell me the child of the {}.",
            "How is a young {} called?",
        ),
    ),
    "sound": (
        "dog bark, cat meow, cow moo, duck quack, lion roar, snake hiss, bee buzz, owl hoot",
        (
            "What sound does the {} make?",
            "Name the sound of the {}.",
            "The {} makes what sound?",
            "Tell me the sound of the {}.",
            "How does the {} sound?",
        ),
    ),
}
SUBJECTS = tuple(FACTS)
REPEATS = 8
ANSWERS = {subject: dict(pair.split() for pair in facts.split(", ")) for subject, (facts, _) in FACTS.items()}


def question(kind: str) -> dict[str, Any]:
    """The data of an example of a kind, subject|thing|wording.

    >>> question("home|bee|1")
    {'question': 'Name the home of the bee.', 'answer': 'hive', 'subject': 'home', 'kind': 'home|bee|1'}
    """
    subject, thing, wording = kind.split("|")
    asked = FACTS[subject][1][int(wording)].format(thing)
    return {"question": asked, "answer": ANSWERS[subject][thing], "subject": subject, "kind": kind}


@cache
def examples(split: Split) -> tuple[Example, ...]:
    """The questions whose kind belongs to the split, in an order that means nothing; those of training several times.

    So the warm start shows several calls for each, and none to be learned by heart.
    """
    kinds = [
        f"{subject}|{thing}|{wording}"
        for subject, (_, wordings) in FACTS.items()
        for thing in ANSWERS[subject]
        for wording in range(len(wordings))
    ]
    own = kinds_of("consult", split, kinds, REPEATS)
    return tuple(Example(f"consult/{split}/{n}", question(kind)) for n, kind in enumerate(own))
