"""Reference answers to the programming problems: who does how much, in styles drawn independently.

A problem is a chain of stages. The helper may do a prefix of it, all of it, or all but the first stage; the main
function may expect any of these, check, fall back or ignore the helper. Agents cannot see each other's style, so a
random pair fits only now and then: a convention is what training has to find.
"""

from __future__ import annotations

import random
from typing import Literal

from madrigal.tasks.embedded.programs import Stages, compile_function, parameters, parse_kind, render
from madrigal.tasks.embedded.programs_atoms import Source
from madrigal.types import Example

HelperStyle = Literal["first", "most", "all", "rest"]
MainStyle = Literal["first", "most", "thin", "guard", "own", "recheck", "fallback", "before"]
HELPER_STYLES: dict[HelperStyle, int] = {"first": 30, "most": 18, "all": 32, "rest": 20}
MAIN_STYLES: dict[MainStyle, int] = {
    "first": 30,
    "most": 20,
    "thin": 10,
    "guard": 14,
    "own": 4,
    "recheck": 3,
    "fallback": 5,
    "before": 14,
}
SLIP_RATE = 0.1
_HELD = ("ys", "items", "result")


def solution(example: Example, rng: random.Random, slips: float = SLIP_RATE) -> tuple[str, str]:
    """A helper and a main source, styles drawn independently; either may slip with probability `slips`."""
    helper = helper_source(example, draw_helper(rng), rng)
    main = main_source(example, draw_main(rng), rng)
    if rng.random() < slips:
        helper = slip(helper, rng)
    return helper, slip(main, rng) if rng.random() < slips else main


def draw_helper(rng: random.Random) -> HelperStyle:
    """A helper style, by weight."""
    return rng.choices(tuple(HELPER_STYLES), list(HELPER_STYLES.values()))[0]


def draw_main(rng: random.Random) -> MainStyle:
    """A main style, by weight."""
    return rng.choices(tuple(MAIN_STYLES), list(MAIN_STYLES.values()))[0]


def fits(helper: HelperStyle, main: MainStyle, kind: str) -> bool:
    """Whether a flawless pair of these styles solves a problem of this kind by design; others may by luck."""
    if main in ("own", "recheck"):
        return True
    stages, source = _effective(kind)
    done = _stages_done(helper, stages, source)
    return done is not None and done == _stages_done(main, stages, source)


def helper_source(example: Example, style: HelperStyle, rng: random.Random) -> str:
    """`aux` in one style, at most four lines."""
    kind = example.data["kind"]
    stages, source = _effective(kind)
    done = _stages_done(style, stages, source)
    part = stages[1:] if done is None else stages[:done]
    base, head = source.base, f"def aux({parameters(kind)}):\n"
    if len(part) > 1 and part[-1][0] == "reduce" and rng.random() < 0.25:
        held = rng.choice(_HELD)
        first, last = render(base, source.var, part[:-1]), render(held, source.var, part[-1:])
        return f"{head}    {held} = {first}\n    return {last}"
    return f"{head}    return {render(base, source.var, part)}"


def main_source(example: Example, style: MainStyle, rng: random.Random) -> str:
    """The required function in one style, at most six lines."""
    kind, entry = example.data["kind"], example.data["entry_point"]
    stages, source = _effective(kind)
    params = parameters(kind)
    call, whole, held = f"aux({params})", render(source.base, source.var, stages), rng.choice(_HELD)
    expected = _stages_done(style, stages, source)
    if style == "own":
        lines = [f"return {whole}"]
    elif style == "recheck":
        lines = [f"{held} = {call}", f"right = {whole}", f"return {held} if {held} == right else right"]
    elif style == "fallback":
        lines = ["try:", f"    return {call}", "except TypeError:", f"    return {whole}"]
    elif style == "thin":
        lines = [f"return {call}"]
    elif style == "guard":
        lines = _guarded(example, call, source, rng)
    elif expected is None:
        first = render(source.base, source.var, stages[:1])
        lines = [f"{held} = {first}", f"return {call.replace(source.parameter, held, 1)}"]
    else:
        lines = [f"{held} = {call}", f"return {render(held, source.var, stages[expected:])}"]
    return f"def {entry}({params}):\n" + "\n".join(f"    {line}" for line in lines)


def slip(source: str, rng: random.Random) -> str:
    """Spoils a source as a hasty programmer would."""
    spoilt = [
        source.replace("):\n", ")\n", 1),
        source[: source.rindex("\n")] if source.count("\n") > 1 else source[:-1],
        source.replace("return ", "", 1),
        source.replace(" if ", " for ", 1) if " if " in source else source[:-1],
    ]
    return rng.choice(spoilt)


def solves(example: Example, helper: str, main: str) -> bool:
    """Whether a pair passes every test of its problem; runs sources that this package wrote itself."""
    try:
        function = compile_function(f"{helper}\n\n{main}\n", example.data["entry_point"])
        compile_function(example.data["test"], "check")(function)
    except (SyntaxError, TypeError, ValueError, NameError, AttributeError, IndexError, AssertionError):
        return False
    return True


def _effective(kind: str) -> tuple[Stages, Source]:
    stages, source = parse_kind(kind)
    return tuple(stage for stage in stages if stage[1].name != "list"), source


def _stages_done(style: HelperStyle | MainStyle, stages: Stages, source: Source) -> int | None:
    """How many stages the helper does, or the main function expects of it; None where the first is left to main."""
    if style in ("rest", "before") and source.base == source.parameter and stages[0][0] == "filter":
        return None
    return {"first": 1, "most": len(stages) - 1}.get(style, len(stages))


def _guarded(example: Example, call: str, source: Source, rng: random.Random) -> list[str]:
    """The call with care before or after it."""
    kind = example.data["kind"]
    run = compile_function(f"def f({parameters(kind)}):\n{example.data['canonical_solution']}", "f")
    nothing = {"ints": [], "words": [], "text": "", "chars": ""}.get(kind.split("|")[0], 0)
    empty = run(nothing, 2) if "k" in parameters(kind) else run(nothing)
    held = rng.choice(_HELD)
    before = [f"if not {source.parameter}:", f"    return {empty!r}", f"return {call}"]
    after = [f"{held} = {call}", f"return {type(empty).__name__}({held})"]
    unset = [f"{held} = {call}", f"if {held} is None:", f"    return {empty!r}", f"return {held}"]
    if kind.startswith("digits"):
        return rng.choice((after, unset))
    return rng.choice((before, before, after, unset))
