"""How many of the words that a tldr team writes are none: slips of a tiny model, before and after training.

    python benchmarks/words.py runs/tldr

Known is every word of the embedded posts and of reference summaries drawn afresh: the corpus has a few hundred words,
so that anything else is a slip. The last word of an answer that was cut off does not count.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from madrigal.runs.log import read_lines
from madrigal.tasks.embedded import posts
from madrigal.types import Example

DRAWN = 6000


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def vocabulary() -> frozenset[str]:
    rng, known = random.Random(0), set[str]()
    for _ in range(DRAWN):
        example = Example("fresh", posts.problem(rng, "train"))
        for text in (example.data["post"], *(posts.summary(example, rng, agent) for agent in ("concise", "detailed"))):
            known.update(words(text))
    for example in posts.examples("test"):
        known.update(words(example.data["post"]))
    return frozenset(known)


def written(run: Path, when: str) -> Iterator[str]:
    """The words of every answer of one evaluation."""
    for record in read_lines(run / "episodes.jsonl"):
        if record.get("evaluation") == when:
            for turn in record["turns"]:
                said = words(turn["text"])
                yield from said if turn["finish"] == "stop" else said[:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    options = parser.parse_args()
    known = vocabulary()
    for run in options.runs:
        row: dict[str, object] = {"run": run.name}
        for when in ("before", "after"):
            said = list(written(run, when))
            slips = [word for word in said if word not in known]
            row |= {f"{when}_words": len(said), f"{when}_unknown_percent": round(100 * len(slips) / len(said), 2)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
