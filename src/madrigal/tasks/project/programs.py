"""Briefs of a module with a command, of four sorts, with the files that do what they ask.

| sort | the function | kinds |
|---|---|---|
| list | from a list of numbers or words, by the operations of the embedded problems | theirs |
| text | from a text, likewise | theirs |
| converter | from one unit to another: up, down, what is left over, the sum of both | `converter|inches|up|plain` |
| counter | how many letters or words of some sort a text has | `counter|starts:a|named` |

The last part of a kind says what the command gives: the result alone, or with the name of its unit.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from madrigal.tasks.coding.sandbox import CallTest
from madrigal.tasks.coding.unit_tests import unit_tests
from madrigal.tasks.editing.faults import swapped
from madrigal.tasks.embedded import programs
from madrigal.tasks.embedded.grammar import draw_kind
from madrigal.tasks.embedded.programs_atoms import WORDS
from madrigal.types import Split

MODULES = ("tools", "core", "parts", "work", "lib", "helpers")
COMMANDS = ("run", "command", "cli")
STYLES = ("plain", "named")
# A larger unit, how many of the smaller one it is, and the smaller one.
UNITS = {
    "inches": ("feet", 12), "feet": ("yards", 3), "minutes": ("hours", 60), "seconds": ("minutes", 60),
    "hours": ("days", 24), "days": ("weeks", 7), "months": ("years", 12), "years": ("decades", 10),
    "ounces": ("pounds", 16), "pints": ("quarts", 2), "quarts": ("gallons", 4), "cents": ("dollars", 100),
    "grams": ("kilos", 1000), "meters": ("kilometers", 1000), "eggs": ("dozens", 12), "sheets": ("reams", 500),
    "players": ("teams", 11), "pages": ("booklets", 8), "bits": ("bytes", 8), "cards": ("decks", 52),
}  # fmt: skip
# Of each: name, parameters, what it does, how, and how not.
DIRECTIONS = {
    "up": ("{large}_to_{small}", "n", "Return how many {small} are in n {large}.", "n * {size}", "n + {size}"),
    "down": ("{small}_to_{large}", "n", "Return how many whole {large} n {small} make.", "n // {size}", "n * {size}"),
    "rest": ("{small}_left", "n", "Return how many of n {small} make no whole {large}.", "n % {size}", "n // {size}"),
    "sum": (
        "all_{small}", "a, b", "Return how many {small} are in a {large} and b {small}.", "a * {size} + b", "a + b",
    ),
}  # fmt: skip
LETTERS = tuple("aeiorstn")
SIZES = tuple("2345")
# Of each: name, what it does, an expression, another one, and what {x} may be.
COUNTERS: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    "words": ("count_words", "Return how many words text has.", "len(text.split())", "len(text)", ("",)),
    "different": (
        "count_different", "Return how many different words text has.", "len(set(text.split()))", "len(text.split())",
        ("",),
    ),
    "vowels": (
        "count_vowels", "Return how many vowels text has.", "len([c for c in text if c in 'aeiou'])",
        "len([c for c in text if c not in 'aeiou'])", ("",),
    ),
    "letter": ("count_{x}", "Return how many times {x} is in text.", "text.count('{x}')", "len(text)", LETTERS),
    "starts": (
        "starts_with_{x}", "Return how many words of text start with {x}.",
        "len([w for w in text.split() if w[0] == '{x}'])", "len([w for w in text.split() if w[-1] == '{x}'])", LETTERS,
    ),
    "ends": (
        "ends_with_{x}", "Return how many words of text end with {x}.",
        "len([w for w in text.split() if w[-1] == '{x}'])", "len([w for w in text.split() if w[0] == '{x}'])", LETTERS,
    ),
    "longer": (
        "longer_than_{x}", "Return how many words of text have more than {x} letters.",
        "len([w for w in text.split() if len(w) > {x}])", "len([w for w in text.split() if len(w) < {x}])", SIZES,
    ),
    "shorter": (
        "shorter_than_{x}", "Return how many words of text have fewer than {x} letters.",
        "len([w for w in text.split() if len(w) < {x}])", "len([w for w in text.split() if len(w) > {x}])", SIZES,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Function:
    """What a module is asked for.

    Attributes:
        does: what, as a sentence.
        body, wrong: an expression that does it, and a similar one that does not.
        arguments: by which it is tested.
        reads: how the command makes arguments of words: an expression over argv, and how that is put.
        unit: what the command names after the result; "" where it gives the result alone.
    """

    name: str
    parameters: str
    does: str
    body: str
    wrong: str
    arguments: Sequence[Sequence[Any]]
    reads: tuple[str, str]
    unit: str = ""

    @property
    def signature(self) -> str:
        return f"{self.name}({self.parameters})"

    def source(self, body: str) -> str:
        return f"def {self.signature}:\n    return {body}"


# An expression over argv that gives the arguments, and how that is put.
READS = {
    "ints": ("[int(x) for x in argv]", "the numbers in argv"),
    "words": ("argv", "argv"),
    "text": ("' '.join(argv)", "argv joined by spaces"),
    "n": ("int(argv[0])", "the number in argv"),
    "a, b": ("int(argv[0]), int(argv[1])", "the two numbers in argv"),
}


def composed(rng: random.Random, split: Split, sources: Sequence[str]) -> tuple[str, Function]:
    """A function of the embedded problems, from one of these sources, and its kind."""
    while True:
        drawn = programs.problem(rng, split)
        source, kind, name = drawn["kind"].split("|")[0], drawn["kind"], drawn["entry_point"]
        body = drawn["canonical_solution"].strip().removeprefix("return ")
        wrong = swapped(body)
        if source not in sources or not wrong or "k" in programs.parameters(kind).split(", "):
            continue
        tree = ast.parse(drawn["prompt"]).body[0]
        assert isinstance(tree, ast.FunctionDef)
        does = (ast.get_docstring(tree) or "").split("\n")[0]
        calls = [ast.literal_eval(test.arguments) for test in unit_tests(drawn["test"]) if isinstance(test, CallTest)]
        reads = READS[source if source in READS else "text"]
        return kind, Function(name, programs.parameters(kind), does, body, wrong, calls, reads)


def converter(rng: random.Random, split: Split) -> tuple[str, Function]:
    """A function from one unit to another, and its kind."""

    def draw(rng: random.Random) -> str:
        return "|".join(("converter", *map(rng.choice, (tuple(UNITS), tuple(DIRECTIONS), STYLES))))

    kind = draw_kind(rng, split, draw)
    _, small, direction, style = kind.split("|")
    large, size = UNITS[small]
    name, parameters, *rest = DIRECTIONS[direction]
    name, does, body, wrong = (text.format(large=large, small=small, size=size) for text in (name, *rest))
    most = 9 if direction == "up" else 6 * size
    numbers = rng.sample(range(1, max(most, 12)), 6)
    calls = [(n,) for n in numbers] if parameters == "n" else [(n % 9 + 1, n % size) for n in numbers]
    unit = "" if style == "plain" else large if direction == "down" else small
    return kind, Function(name, parameters, does, body, wrong, calls, READS[parameters], unit)


def counter(rng: random.Random, split: Split) -> tuple[str, Function]:
    """A function that counts something in a text, and its kind."""

    def draw(rng: random.Random) -> str:
        what = rng.choice(tuple(COUNTERS))
        return f"counter|{what}:{rng.choice(COUNTERS[what][-1])}|{rng.choice(STYLES)}"

    kind = draw_kind(rng, split, draw)
    what, _, x = kind.split("|")[1].partition(":")
    name, does, body, wrong = (text.replace("{x}", x) for text in COUNTERS[what][:-1])
    some = rng.sample(WORDS, 6)
    texts = [" ".join(rng.choices(some, k=size)) for size in (0, 2, 3, 3, 4, 5)]
    unit = "found" if kind.endswith("named") else ""
    return kind, Function(name, "text", does, body, wrong, [(text,) for text in texts], READS["text"], unit)


def program(rng: random.Random, split: Split, sort: str) -> dict[str, Any]:
    """One fresh brief; redrawn until a call that is shown tells the function from the broken one."""
    while True:
        kind, function = SORTS[sort](rng, split)
        right, wrong = (_results(function, body) for body in (function.body, function.wrong))
        telling = [n for n, both in enumerate(zip(right, wrong, strict=True)) if both[0] != both[1]]
        if not telling or len(set(map(repr, right))) < 2:
            continue
        shortest = min(telling, key=lambda n: len(repr(function.arguments[n])))
        other = next(n for n in range(len(right)) if repr(right[n]) != repr(right[shortest]))
        return _brief(rng, kind, sort, function, right, (shortest, other))


def _results(function: Function, body: str) -> list[Any]:
    """What an expression gives on the arguments of a function; runs code that this package wrote itself."""
    run = programs.compile_function(function.source(body), function.name)
    return [_result(run, arguments) for arguments in function.arguments]


def _result(run: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        return run(*arguments)
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:  # of the wrong one
        return type(error).__name__


def _brief(
    rng: random.Random, kind: str, sort: str, function: Function, results: Sequence[Any], shown: Sequence[int]
) -> dict[str, Any]:
    module, command = rng.choice(MODULES), rng.choice(COMMANDS)
    calls = [(tuple(arguments), result) for arguments, result in zip(function.arguments, results, strict=True)]
    argvs = [(_argv(arguments), f"{result} {function.unit}".rstrip()) for arguments, result in calls]
    given = f"{function.name} of {function.reads[1]}"
    gives = f"{given} and {function.unit!r}" if function.unit else f"str of {given}"
    asserts = [f"{function.name}({', '.join(map(repr, calls[n][0]))}) == {calls[n][1]!r}" for n in shown]
    argv, text = argvs[shown[0]]
    brief = [
        f"{module}.py: def {function.signature}: {function.does}",
        *asserts,
        f"{command}.py: main(argv) returns {gives}: main({argv!r}) == {text!r}",
        f"test_{module}.py: tests of {function.name}. README.md: names {function.name} and {command}.py.",
    ]
    value = f"{function.name}({function.reads[0]})"
    returned = f'f"{{{value}}} {function.unit}"' if function.unit else f"str({value})"
    imported = f"from {module} import {function.name}"
    tests = "".join(f"\n    assert {line}" for line in asserts)
    return {
        "kind": kind,
        "sort": sort,
        "brief": "\n".join(brief),
        "module": f"{module}.py",
        "function": function.signature,
        "tests": [[repr(arguments), repr(result)] for arguments, result in calls],
        "broken": function.source(function.wrong),
        "test_file": f"test_{module}.py",
        "command": f"{command}.py",
        "calls": [[argv, text] for argv, text in argvs],
        "readme": "README.md",
        "files": {
            f"{module}.py": function.source(function.body),
            f"{command}.py": f"{imported}\n\ndef main(argv):\n    return {returned}",
            f"test_{module}.py": f"{imported}\n\ndef test_{function.name}():{tests}",
            "README.md": f"# {module}\n{function.signature}: {function.does}\nCommand: {command}.py",
        },
    }


def _argv(arguments: Sequence[Any]) -> list[str]:
    """The words from which the command makes these arguments."""
    match list(arguments):
        case [str(text)]:
            return text.split(" ") if text else []
        case [list(items)]:
            return list(map(str, items))
    return list(map(str, arguments))


SORTS: dict[str, Callable[[random.Random, Split], tuple[str, Function]]] = {
    "list": lambda rng, split: composed(rng, split, ("ints", "words")),
    "text": lambda rng, split: composed(rng, split, ("text", "chars")),
    "converter": converter,
    "counter": counter,
}
