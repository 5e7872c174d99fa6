"""Broken programs of two functions, with something wrong or missing in each agent's part; made from embedded problems.

An example, of which `edits` and `mended` are shown to nobody:

    program    def sift(xs):                               asked     {"aux(xs)": "Return the even numbers in xs.",
                   return [x for x in xs if x % 2 == 0]               "sum_square_even(xs)": "Return the sum of ..."}
               def sum_square_even(xs):                    tests     [["aux", "([1, 2],)", "[2]"], ...]
                   ys = sift(xs)                           passed    0, as it stands
                   return sum([x + x for x in ys])         faults    {"helper": "name", "main": "operator"}
    edits      {"helper": "rename sift aux",
                "main": "replace sum_square_even.return\\nreturn sum([x * x for x in ys])"}

`aux` does the first of the operations of a problem, the asked-for function the others; tests call both, so that each
agent's part is tested by itself and the edits of both are needed.
"""

from __future__ import annotations

import ast
import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from madrigal.tasks.coding.program import AUX
from madrigal.tasks.coding.sandbox import CallTest
from madrigal.tasks.coding.unit_tests import unit_tests
from madrigal.tasks.editing.apply import apply
from madrigal.tasks.editing.operations import Operation, read, written
from madrigal.tasks.editing.work import CALL, CALLER, Test
from madrigal.tasks.embedded import programs
from madrigal.tasks.embedded.grammar import example_set
from madrigal.types import Example, Split

HELPER, MAIN = "helper", "main"
NUM_EXAMPLES = {"train": 240, "validation": 48, "test": 96}
AUX_TESTS = 4
FAULTS = ("operator", "name", "missing", "import", "doubled")
# The two may be alike, but for what one edit mends twice; "missing" needs a neighbor that stays where it is.
PAIRS = tuple(
    (one, two)
    for one in FAULTS
    for two in FAULTS
    if (one, two) not in (("import", "import"), ("missing", "missing"), ("missing", "doubled"), ("doubled", "missing"))
)
WRONG_NAMES = {HELPER: ("sift", "pick", "part", "prepare"), MAIN: ("run", "work", "answer", "calc")}
IMPORT = "import copy"
# The first of these that a line holds is swapped; whatever it becomes can be computed.
SWAPS = (
    (" == ", " != "), (" != ", " == "), (" <= ", " > "), (" > ", " < "), (" < ", " > "), (" not in ", " in "),
    (" in '", " not in '"), (" ** ", " * "), (" // ", " * "), (" * ", " + "), ("sum(", "max("), ("max(", "min("),
    ("min(", "max("), ("sorted(set(", "len(set("), ("sorted(", "list("), ("len(", "list("),
    ("upper", "lower"), ("lower", "upper"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two functions.

    Attributes:
        name: under which the program has it.
        lines: of its body, the last one its `return`.
    """

    name: str
    parameters: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n    ".join((f"def {self.name}({self.parameters}):", *self.lines))


@functools.cache
def examples(split: Split) -> tuple[Example, ...]:
    """The fixed example set of a split; combinations of operations are held out, kinds of faults are not."""
    return example_set("edit", split, NUM_EXAMPLES[split], problem)


def problem(rng: random.Random, split: Split) -> dict[str, Any]:
    """One fresh broken program; redrawn until both edits are needed, and enough."""
    while True:
        drawn = programs.problem(rng, split)
        faults = dict(zip((HELPER, MAIN), rng.choice(PAIRS), strict=True))
        if data := _broken(drawn, faults, rng):
            return data


def passed(program: str, tests: Sequence[Test]) -> list[bool]:
    """Which tests a program passes; runs code that this package wrote itself."""
    call, outcomes = programs.compile_function(program + CALLER, CALL), list[bool]()
    for name, arguments, expected in tests:
        try:
            outcomes.append(bool(call(name, *ast.literal_eval(arguments)) == ast.literal_eval(expected)))
        except (NameError, TypeError, ValueError, AttributeError):
            outcomes.append(False)
    return outcomes


def _broken(drawn: Mapping[str, Any], faults: Mapping[str, str], rng: random.Random) -> dict[str, Any] | None:
    """A program with such faults; None where the problem does not allow them."""
    kind, entry = drawn["kind"], drawn["entry_point"]
    stages, source = programs.parse_kind(kind)
    params = programs.parameters(kind)
    body = programs.render(source.base, source.var, stages[:1])
    helper = Part(AUX, params, (f"return {body}",))
    rest = programs.render("ys", source.var, stages[1:])
    main = Part(entry, params, (f"ys = {AUX}({params})", f"return {rest}"))
    if faults[HELPER] == "import":
        name = source.parameter
        helper = replace(helper, lines=(f"{name} = copy.copy({name})", *helper.lines))
    if faults[MAIN] == "import":
        main = replace(main, lines=(f"ys = copy.copy({AUX}({params}))", *main.lines[1:]))
    parts = {HELPER: helper, MAIN: main}
    standing = {role: rng.choice(WRONG_NAMES[role]) if faults[role] == "name" else parts[role].name for role in parts}
    made = {role: _spoilt(parts[role], faults[role], role, standing) for role in parts}
    whole = "\n".join(text for texts, _ in made.values() for text in texts)
    if faults[HELPER] == "name":  # in both places
        whole = whole.replace(f"{AUX}(", f"{standing[HELPER]}(")
    edits = {role: operations for role, (_, operations) in made.items()}
    if not all(edits.values()):
        return None
    program = ast.unparse(ast.parse(whole))
    tests = _tests(drawn["test"], helper, entry)
    data = {
        "program": program,
        "asked": {
            f"{AUX}({params})": programs.nominal(stages[:1], source, rng),
            f"{entry}({params})": _first_line(drawn["prompt"]),
        },
        "tests": tests,
        "passed": sum(passed(program, tests)),
        "kind": kind,
        "faults": dict(faults),
        "edits": {role: written(operations) for role, operations in edits.items()},
        "mended": apply(program, edits, 9).program,
    }
    return data if _needs_both(data) else None


def _spoilt(
    part: Part, fault: str, role: str, standing: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[Operation, ...]]:
    """The functions that stand in the program for one, and the operations that mend it; none where that cannot be.

    Args:
        standing: the names that the two functions have in the program.
    """
    other = standing[MAIN if role == HELPER else HELPER]
    match fault:
        case "operator":
            wrong = swapped(part.lines[-1])
            mend = Operation("replace", f"{part.name}.return", code=part.lines[-1])
            return (replace(part, lines=(*part.lines[:-1], wrong)).text,), (mend,) if wrong else ()
        case "name":
            wrong = standing[role]
            return (replace(part, name=wrong).text,), (Operation("rename", wrong, part.name),)
        case "missing":
            return (), (Operation("before" if role == HELPER else "after", other, code=part.text),)
        case "import":
            return (part.text,), (Operation("add", code=IMPORT),)
    call = part.parameters.split(",")[0] if role == HELPER else f"{AUX}({part.parameters})"
    stale = replace(part, lines=(f"return {call}",))
    return (part.text, stale.text), (Operation("delete", part.name),)


def swapped(line: str) -> str:
    """A line with another operator; "" where it has none of the table.

    >>> swapped("return sum(xs)"), swapped("return xs")
    ('return max(xs)', '')
    """
    return next((line.replace(one, other, 1) for one, other in SWAPS if one in line), "")


def _tests(source: str, helper: Part, entry: str) -> list[Test]:
    """The problem's own tests, and on their arguments some of `aux` that differ."""
    calls = [test for test in unit_tests(source) if isinstance(test, CallTest)]
    run = programs.compile_function(f"import copy\n{helper.text}", helper.name)
    results = {repr(run(*ast.literal_eval(call.arguments))): call.arguments for call in calls}
    own = [(helper.name, arguments, result) for result, arguments in results.items()]
    return [*own[-AUX_TESTS:], *((entry, call.arguments, call.expected) for call in calls)]


def _first_line(prompt: str) -> str:
    (function,) = ast.parse(prompt).body
    assert isinstance(function, ast.FunctionDef)
    return (ast.get_docstring(function) or "").split("\n")[0]


def _needs_both(data: Mapping[str, Any]) -> bool:
    """Whether each agent's tests fail without its own edits, and all pass with those of both."""
    said = {role: read(text).operations for role, text in data["edits"].items()}
    own = {HELPER: [test for test in data["tests"] if test[0] == AUX]}
    own[MAIN] = [test for test in data["tests"] if test[0] != AUX]
    for role, other in ((HELPER, MAIN), (MAIN, HELPER)):
        half = apply(data["program"], {other: said[other]}, 9).program
        if any(all(passed(program, own[role])) for program in (data["program"], half)):
            return False
    return all(passed(data["mended"], data["tests"]))
