"""Python problems in HumanEval's schema, made of two or three operations: filter, map, reduce.

An instance: {"task_id": "programs/train/0", "entry_point": "sum_square_even", "prompt": 'def sum_square_even(xs):
\"\"\"Return the sum of the squares of the even numbers in xs. ...\"\"\"', "canonical_solution": ..., "test": ...,
"kind": "ints|filter:even|map:square|reduce:sum"}. The kind is the combination of operations; every operation of the
test kinds occurs in training, in other combinations.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

from madrigal.tasks.embedded import programs_atoms as atoms
from madrigal.tasks.embedded.grammar import draw_kind, example_set
from madrigal.tasks.embedded.programs_atoms import SOURCES, Atom, Source
from madrigal.types import Example, Split

NUM_EXAMPLES = {"train": 800, "validation": 200, "test": 200}
Stages = tuple[tuple[str, Atom], ...]


@functools.cache
def examples(split: Split) -> tuple[Example, ...]:
    """The fixed example set of a split."""
    drawn = example_set("programs", split, NUM_EXAMPLES[split], problem)
    return tuple(Example(example.id, {"task_id": example.id, **example.data}) for example in drawn)


def problem(rng: random.Random, split: Split) -> dict[str, Any]:
    """One fresh problem with one or two examples in its docstring and five to eight tests."""
    while True:
        kind = draw_kind(rng, split, _draw_kind)
        stages, source = parse_kind(kind)
        params = parameters(kind)
        entry = _name(stages, rng)
        body = render(source.base, source.var, stages)
        run = compile_function(f"def {entry}({params}):\n    return {body}\n", entry)
        arguments = _arguments(kind, rng)
        results = [run(*args) for args in arguments]
        if len({repr(result) for result in results}) >= 4:
            break
    calls = [(", ".join(map(repr, args)), repr(out)) for args, out in zip(arguments, results, strict=True)]
    shown = [call for call in calls[1:] if len(call[0]) + len(call[1]) <= 48][: rng.choice((1, 1, 1, 2))]
    doc = "".join(f"    >>> {entry}({args})\n    {out}\n" for args, out in shown or calls[1:2])
    checks = "".join(f"    assert candidate({args}) == {out}\n" for args, out in calls)
    return {
        "prompt": f'def {entry}({params}):\n    """{_describe(stages, source, rng)}\n{doc}    """\n',
        "entry_point": entry,
        "canonical_solution": f"    return {body}\n",
        "test": f"def check(candidate):\n{checks}",
        "kind": kind,
    }


def parse_kind(kind: str) -> tuple[Stages, Source]:
    """The operations and the source that a kind names; "reduce:list" is no operation of its own."""
    name, *steps = kind.split("|")
    source = SOURCES[name]
    tables = {"filter": source.filters, "map": source.maps, "reduce": _reducers()}
    stages = []
    for step in steps:
        sort, atom_name = step.split(":")
        stages.append((sort, next(atom for atom in tables[sort] if atom.name == atom_name)))
    return tuple(stages), source


def parameters(kind: str) -> str:
    """What the functions of this kind take: the elements' source, and k where an operation needs it."""
    stages, source = parse_kind(kind)
    return f"{source.parameter}, k" if any(atom.needs_k for _, atom in stages) else source.parameter


def render(base: str, var: str, stages: Stages) -> str:
    """An expression that applies the stages to `base`.

    >>> stages, source = parse_kind("ints|filter:even|map:square|reduce:sum")
    >>> render("xs", "x", stages)
    'sum([x * x for x in xs if x % 2 == 0])'
    """
    element, condition, wrap = var, "", "{s}"
    for sort, atom in stages:
        code = atom.code.replace("{k}", "k").replace("{v}", var)
        if sort == "filter":
            condition = f" if {code}"
        elif sort == "map":
            element = code
        else:
            wrap = code
    elementwise = any(sort != "reduce" for sort, _ in stages)
    return wrap.replace("{s}", f"[{element} for {var} in {base}{condition}]" if elementwise else base)


def compile_function(code: str, name: str) -> Callable[..., Any]:
    """Runs source that this package wrote itself and returns one of its functions."""
    scope: dict[str, Any] = {}
    exec(code, scope)
    function: Callable[..., Any] = scope[name]
    return function


def _reducers() -> tuple[Atom, ...]:
    return (*atoms.ANY_REDUCERS, *atoms.INT_REDUCERS, *atoms.STR_REDUCERS)


def _draw_kind(rng: random.Random) -> str:
    """Draws operations whose types fit, at most one of which takes k."""
    while True:
        name = rng.choices(tuple(SOURCES), atoms.SOURCE_WEIGHTS)[0]
        source = SOURCES[name]
        shape = rng.choices(("fm", "f", "m"), (66, 17, 17))[0]
        parts: list[tuple[str, Atom]] = []
        if "f" in shape:
            parts.append(("filter", rng.choice(source.filters)))
        if "m" in shape:
            parts.append(("map", rng.choice(source.maps)))
        number = source.filters is atoms.INT_FILTERS or parts[-1][1].gives == "int"
        own = atoms.INT_REDUCERS if number else atoms.STR_REDUCERS
        parts.append(("reduce", rng.choice(own if rng.random() < 0.55 else atoms.ANY_REDUCERS)))
        if parts[-1][1].name == "list" and shape != "fm":
            continue
        if sum(atom.needs_k for _, atom in parts) <= 1:
            return "|".join([name, *(f"{sort}:{atom.name}" for sort, atom in parts)])


def _name(stages: Stages, rng: random.Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(atoms.NAMES)
    names = [atom.name for _, atom in stages]
    return "_".join(names if rng.random() < 0.5 else names[::-1])


def _arguments(kind: str, rng: random.Random) -> list[tuple[Any, ...]]:
    """Between five and eight argument tuples, the empty input among them, first."""
    stages, _ = parse_kind(kind)
    bounds = next((atom.bounds for _, atom in stages if atom.needs_k), None)
    drawn = [_argument(kind.split("|")[0], rng, size) for size in (0, *rng.choices((2, 3, 4, 5), k=rng.randint(6, 10)))]
    unique = list({repr(value): value for value in drawn}.values())[: rng.randint(5, 8)]
    return [(value, rng.randint(*bounds)) if bounds else (value,) for value in unique]


def _argument(source: str, rng: random.Random, size: int) -> Any:
    if source == "ints":
        return [rng.choice((-1, 1, 1, 1)) * rng.randint(0, 12) for _ in range(size)]
    if source == "range":
        return rng.randint(2, 12) if size else 0
    if source == "digits":
        return rng.randint(10 ** (size - 1), 10**size - 1) if size else 0
    if source == "chars":
        return " ".join(rng.sample(atoms.CHUNKS, min(size, 3)))
    words = rng.sample(atoms.WORDS, size)
    return " ".join(words) if source == "text" else words


def _describe(stages: Stages, source: Source, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return nominal(stages, source, rng)
    phrases = [rng.choice(atom.verbal).replace("{e}", source.elements) for _, atom in stages]
    given = rng.choice(source.given)
    steps = f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    then = f"first {phrases[0]}, " + "".join(f"then {p}, " for p in phrases[1:-1]) + f"finally {phrases[-1]}"
    return rng.choice((f"Given {given}, {steps}.", f"From {given}, {steps}.", f"Take {given}: {then}."))


def nominal(stages: Stages, source: Source, rng: random.Random) -> str:
    """What stages come to, as a sentence: "Return the squares of the even numbers in xs."."""
    phrase = f"the {source.elements}"
    for sort, atom in stages:
        words = rng.choice(atom.nominal)
        phrase = words.replace("{e}", source.elements) if sort == "filter" else words.replace("{np}", phrase)
        if sort == "filter" or (sort == "map" and stages[0][0] == "map"):
            phrase = f"{phrase} {source.place}" if source.place not in phrase else phrase
    return f"Return {phrase}."
