"""Briefs of a site of three linked pages, of three sorts, with pages that do what they ask.

A kind is a sort, who or what the site is about, and the two topics that have a page: `animal|otter|food|home`. What is
said of animals is known; places and clubs are invented, and what is said of them is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from madrigal.tasks.embedded.grammar import draw_kind, pick_some
from madrigal.tasks.project.brief import INDEX
from madrigal.types import Split

# What it is, and what there is to say on each topic.
TOPICS = {
    "animal": ("food", "home", "young", "legs"),
    "place": ("sights", "food", "travel", "weather"),
    "club": ("time", "fee", "rules", "guests"),
}
ANIMALS = {
    name: tuple(words.split())
    for name, words in {
        "otter": "mammal fish river pups four", "fox": "mammal mice den cubs four", "owl": "bird voles tree owlets two",
        "frog": "amphibian flies pond tadpoles four", "bee": "insect nectar hive larvae six",
        "horse": "mammal grass stable foals four", "goat": "mammal leaves hills kids four",
        "duck": "bird seeds lake ducklings two", "salmon": "fish shrimp sea fry none",
        "whale": "mammal krill ocean calves none", "rabbit": "mammal clover burrow kits four",
        "ant": "insect crumbs hill larvae six",
    }.items()
}  # fmt: skip
NAMES = {
    "animal": tuple(ANIMALS),
    "place": (
        "Alder", "Birch", "Cedar", "Dunmore", "Elmford", "Farley", "Glenby", "Harrow", "Iverton", "Kelby", "Larch",
        "Milbrook",
    ),
    "club": (
        "chess", "rowing", "choir", "garden", "hiking", "film", "book", "bread", "kite", "robot", "tennis", "sewing",
    ),
}  # fmt: skip
WORDS = {
    "place": (
        ("town", "city", "port", "village"), ("tower", "bridge", "castle", "mill"),
        ("bread", "soup", "cheese", "plums"),
        ("train", "bus", "boat", "tram"), ("rain", "wind", "snow", "sun"),
    ),
    "club": (
        ("old", "new", "small", "open"), ("Monday", "Tuesday", "Friday", "Sunday"), ("ten", "five", "two", "nothing"),
        ("quiet", "early", "fair", "clean"), ("Ada", "Bob", "Eve", "Tom"),
    ),
}  # fmt: skip


def site(rng: random.Random, split: Split, sort: str) -> dict[str, Any]:
    """One fresh brief."""

    def draw(rng: random.Random) -> str:
        return "|".join((sort, rng.choice(NAMES[sort]), *pick_some(rng, TOPICS[sort], 2)))

    kind = draw_kind(rng, split, draw)
    _, name, *topics = kind.split("|")
    words = ANIMALS[name] if sort == "animal" else tuple(map(rng.choice, WORDS[sort]))
    said = dict(zip(("", *TOPICS[sort]), words, strict=True))
    title = name if sort == "place" else f"The {name}" + " club" * (sort == "club")
    pages = {INDEX: (title, said[""]), **{f"{topic}.html": (topic.capitalize(), said[topic]) for topic in topics}}
    brief = [
        f"A site of {len(pages)} linked pages about {'' if sort == 'place' else 'the '}{title.removeprefix('The ')}:"
    ]
    brief += [f"{path}: title {heading}, says {word}" for path, (heading, word) in pages.items()]
    return {
        "kind": kind,
        "sort": sort,
        "brief": "\n".join(brief),
        "pages": {path: {"title": heading, "words": [word]} for path, (heading, word) in pages.items()},
        "files": {
            path: page(heading, word, [other for other in pages if (path == INDEX) != (other == INDEX)])
            for path, (heading, word) in pages.items()
        },
    }


def page(title: str, words: str, links: Sequence[str]) -> str:
    """A page of HTML, as short as the standard allows.

    >>> print(page("Food", "Fish.", ["index.html"]))
    <!DOCTYPE html>
    <title>Food</title>
    <p>Fish.</p>
    <a href="index.html">index</a>
    """
    listed = [f'<a href="{link}">{link.removesuffix(".html")}</a>' for link in links]
    return "\n".join(("<!DOCTYPE html>", f"<title>{title}</title>", f"<p>{words}</p>", *listed))
