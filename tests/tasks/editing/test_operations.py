"""Lines to operations and back, what they do to a program, what is refused, and which of two agents' conflict."""

from __future__ import annotations

import ast
import textwrap
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from madrigal.tasks.coding.syntax import compile_fault
from madrigal.tasks.editing.apply import LONGEST, Applied, apply, num_changed, without_dead
from madrigal.tasks.editing.diagnose import diagnose, signature
from madrigal.tasks.editing.operations import WITH_CODE, Kind, Operation, read, retyped, written

PROGRAM = """import math

def aux(xs):
    ys = [x for x in xs]
    return ys

def f(xs):
    return math.fsum(aux(xs))"""


def tidy(text: str) -> str:
    return ast.unparse(ast.parse(text))


def done(one: str, two: str = "", program: str = PROGRAM) -> Applied:
    return apply(program, {"ann": read(one).operations, "bob": read(two).operations}, 8)


def changed(one: str, two: str = "", program: str = PROGRAM) -> str:
    """The program after operations that all apply."""
    found = done(one, two, program)
    assert not any(found.refused.values()) and not found.conflicts
    return found.program


# Lines


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
CODE = st.lists(st.sampled_from(["x = 1", "def g(a):\n\n    return a", "# replaced f", "return y"]), min_size=1)
OPERATIONS = st.one_of(
    st.builds(Operation, st.sampled_from(WITH_CODE), PATHS, code=CODE.map("\n".join)),
    st.builds(Operation, st.just("delete"), PATHS),
    st.builds(Operation, st.just("rename"), NAMES, NAMES),
    st.builds(Operation, st.just("add"), code=st.sampled_from(["import os", "from a.b import c as d, e"])),
)


@settings(max_examples=50)
@given(st.lists(OPERATIONS, max_size=5))
def test_what_was_written_is_read(operations: list[Operation]) -> None:
    said = read(written(operations))
    assert said.operations == tuple(operations) and not said.unread


def test_prose_fences_and_lines_without_an_operation() -> None:
    said = read("Sure:\n```\nreplace f\n    def f():\n        return 1\n```\ndelete g\r\nx = 1\nrename a\nadd math")
    assert said.operations == (Operation("replace", "f", code="def f():\n    return 1"), Operation("delete", "g"))
    assert said.unread == ("Sure:", "x = 1", "rename a", "add math")


# What they do


@pytest.mark.parametrize(
    ("lines", "before", "after"),
    [
        ("replace aux.return\nreturn ys[1:]", "return ys\n", "return ys[1:]\n"),
        ("replace aux.ys\nys = list(xs)\nys.sort()", "ys = [x for x in xs]", "ys = list(xs)\n    ys.sort()"),
        ("replace f\ndef f(xs):\n  return 1", "return math.fsum(aux(xs))", "return 1"),
        ("before f\ndef g():\n    return 0", "def f(xs)", "def g():\n    return 0\n\ndef f(xs)"),
        ("after math\nK = 2", "import math\n", "import math\nK = 2\n"),
        ("after aux.ys\nys = ys or [0]", "    return ys\n", "    ys = ys or [0]\n    return ys\n"),
        ("before aux.return\nys.sort()", "    return ys\n", "    ys.sort()\n    return ys\n"),
        ("delete math", "import math\n\n", ""),
        ("rename aux sift", "aux", "sift"),
        ("rename ys zs", "ys", "zs"),
        ("rename math m", "import math\n", "import math as m\n"),
        ("add from os import sep", "import math", "from os import sep\nimport math"),
        ("add import math", "", ""),
        ("replace aux.return\nreturn ys", "", ""),
    ],
)
def test_the_program_after_an_operation(lines: str, before: str, after: str) -> None:
    expected = PROGRAM.replace(before, after) if before else PROGRAM
    if lines == "rename math m":
        expected = expected.replace("math.", "m.")
    assert changed(lines) == tidy(expected)


def test_an_attribute_is_no_name_and_a_keyword_of_a_call_is() -> None:
    program = "def f(old=1):\n    global g\n    g = 1\n    return f(old=2).old + len(f'{old}')"
    assert changed("rename old new", program=program) == program.replace("old=", "new=").replace("{old}", "{new}")
    assert changed("rename g h", program=program) == program.replace("g\n", "h\n").replace("g =", "h =")


def test_of_two_of_a_name_the_last_is_meant() -> None:
    program = "def f():\n    return 1\n\ndef f():\n    return 2\n\ndef g():\n    return f()"
    assert "return 2" not in changed("delete f", program=program)
    assert done("delete f\ndelete f", program=program).program == "def g():\n    return f()", "said twice, meant twice"
    again = changed("replace f\ndef f(): return 3", program=program)
    assert "return 1" in again and "return 2" not in again, "a hidden one is no obstacle"


def test_imports_come_behind_a_docstring_and_the_future() -> None:
    program = '"""Doc."""\nfrom __future__ import annotations\nx = 1'
    assert changed("add import os", program=program) == program.replace("x = 1", "import os\nx = 1")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("delete g", "delete g (no g)"),
        ("delete aux.zs", "delete aux.zs (no aux.zs)"),
        ("delete math.x", "delete math.x (math is no function)"),
        ("rename g h", "rename g h (no g)"),
        ("rename aux f", "rename aux f (f is there already)"),
        ("rename aux def", "rename aux def (def is a keyword)"),
        ("replace f", "replace f (no code below it)"),
        ("replace f\ndef f(:", "replace f (line 1: invalid syntax)"),
        ("replace f\ndef g(xs):\n    return 1", "replace f (the code does not define f)"),
        ("replace f\ndef f(): 0\ndef aux(): 0", "replace f (aux is there already)"),
        ("before f\ndef aux():\n    return 1", "before f (aux is there already)"),
        ("after f\nreturn 1", "after f ('return' outside function)"),
        ("add import os; x = 1", "add import os; x = 1 (one import, on a line of its own)"),
        (f"after f\nx = {'1' * LONGEST}", f"after f (more than {LONGEST} characters)"),
        (f"after f\nx = '{'a' * (LONGEST - 9)}'", f"after f (a program of more than {LONGEST} characters)"),
    ],
)
def test_what_is_refused_changes_nothing_and_is_told(lines: str, reason: str) -> None:
    assert done(lines) == Applied(PROGRAM, {"ann": (reason,), "bob": ()}, (), 0)


def test_what_shares_its_statement_and_what_is_the_last() -> None:
    program = "a, b = (1, 2)"
    assert done("delete a", program=program).refused["ann"] == ("delete a (shares its line with b)",)
    assert done("delete a", program="a = 1").refused["ann"] == ("delete a (nothing would be left)",)
    assert done("rename os o", program="import os.path").refused["ann"] == (
        "rename os o (os.path is imported by its path)",
    )


def test_one_too_many() -> None:
    found = apply(PROGRAM, {"ann": read("add import os\nadd import re\nadd import ast").operations}, 2)
    assert found.count == 2 and found.refused == {"ann": ("add import ast (one too many, 2 a turn)",)}


# Two agents


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("replace f\ndef f(xs): return 1", "replace f\ndef f(xs): return 2"),
        ("replace f\ndef f(xs): return 1", "delete f"),
        ("replace aux\ndef aux(xs): return xs", "replace aux.return\nreturn 0"),
        ("delete aux", "delete aux.ys"),
        ("delete aux", "rename aux sift"),
        ("rename aux sift", "rename aux pick"),
        ("rename aux g", "rename f g"),
        ("rename aux g", "rename g h"),
        ("rename aux g", "before f\ndef g(): return 1"),
        ("before f\ndef g(): return 1", "after f\ndef g(): return 2"),
        ("before f\ndef g(): return 1", "delete g"),
        ("add import os", "add from posix import stat as os"),
        ("delete aux", "after aux\nK = 1"),
        ("replace aux\ndef aux(xs): return xs", "after aux.ys\nys = []"),
    ],
)
def test_conflicts_apply_neither_whoever_speaks_first(one: str, two: str) -> None:
    for first, second in ((one, two), (two, one)):
        found = done(first, second)
        assert (found.program, found.count, len(found.conflicts)) == (PROGRAM, 0, 1)
        heads = [first.split("\n")[0], second.split("\n")[0]]
        assert found.conflicts == (f"{heads[0]} (ann), {heads[1]} (bob)",) and not any(found.refused.values())


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("replace f\ndef f(xs): return 1", "replace aux\ndef aux(xs): return 2"),
        ("replace aux.ys\nys = 1", "replace aux.return\nreturn 2"),
        ("replace f\ndef f(xs): return aux(xs)", "rename aux sift"),
        ("replace f\ndef f(xs): return sift(xs)", "rename aux sift"),
        ("replace aux\ndef aux(xs): return 1", "rename aux sift"),
        ("before f\nK = 1", "rename f g"),
        ("before f\nK = 1", "replace f\ndef f(xs): return 1"),
        ("delete math", "delete math"),
        ("add import os", "add import re"),
    ],
)
def test_what_fits_applies_alike_whoever_speaks_first(one: str, two: str) -> None:
    assert num_changed(changed(one, two), changed(two, one)) == 0
    assert changed(one, two) != PROGRAM


def test_equal_operations_count_once_and_a_conflict_spares_the_rest() -> None:
    found = done(*["delete f\nadd import os"] * 2)
    assert found.count == 2 and "def f" not in found.program
    found = done("delete f\nadd import os", "rename f g\nrename aux sift")
    assert found.conflicts == ("delete f (ann), rename f g (bob)",)
    assert found.program == "import os\n" + tidy(PROGRAM.replace("aux", "sift"))


def test_code_may_use_names_before_or_after_a_rename() -> None:
    for name in ("aux", "sift"):
        text = changed(f"replace f.return\nreturn {name}(xs)", "rename aux sift")
        assert "return sift(xs)" in text and "aux" not in text


# Retyping


def test_retyped_code_takes_its_place() -> None:
    said = retyped(
        "Here:\n```python\nimport math\nimport os\ndef f(xs):\n    return 1\ndef g(x):\n    return x\n```", PROGRAM
    )
    assert [each.line for each in said.operations] == ["add import math", "add import os", "replace f", "before aux"]
    found = apply(PROGRAM, {"ann": said.operations}, 8)
    assert found.count == 3 and not found.refused["ann"], "what is there already is no change"
    assert without_dead(found.program, ["f"]) == "import os\nimport math\n\ndef f(xs):\n    return 1"
    assert without_dead(found.program, ["g"]).count("def") == 1 and without_dead("def f(): 0", ["g"]) == "def f(): 0"
    assert retyped("I cannot.", PROGRAM).unread == ("no code",)
    assert retyped("def f(xs:\n    return 1", PROGRAM).unread == ("def f(xs:",)


# What an editor underlines


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("def f(x):\n    return x", []),
        ("def g(x):\n    return x", ["lint: no def f", "lint: g is not used"]),
        ("def f(x):\n    return [y for y in x if z]", ["lint: z is not defined"]),
        ("def f(x):\n    def g():\n        return x\n    return g()", []),
        ("def f(x):\n    global k\n    k = 1\n    return k", []),
        ("from math import *\ndef f(x):\n    return sin(x)", []),
        ("import os\ndef f(x):\n    y = 1\n    return x", ["lint: os is not used", "lint: y in f is not used"]),
        ("def f(x):\n    return 1\ndef f(x):\n    return 2", ["lint: f is defined 2 times, the last one counts"]),
        ("def len(x):\n    return 1\ndef f(x):\n    return len(x)", ["lint: len hides a builtin"]),
        ("import numpy\ndef f(x):\n    return numpy", ["lint: numpy is not in the standard library"]),
        ("def f(x, y):\n    return 1", ["type: f takes (x), not (x, y)"]),
        ("def f(x):\n    return f()", ["type: f takes 1 arguments, 0 given"]),
        ("def f(x):\n    return f(1, 2)", ["type: f takes 1 arguments, 2 given"]),
        ("def f(x):\n    return f(y=1)", ["type: f has no parameter y"]),
        ("def f(x):\n    return f(*x) + f(**x) + g(1) + g(b=2)\ndef g(*a, b=1):\n    return a or b", []),
    ],
)
def test_diagnoses(program: str, found: list[str]) -> None:
    assert [str(each) for each in diagnose(program, dict([signature("f(x)")]))] == found


# Hostile answers

NESTED = f"x = {'(' * 5000}1{')' * 5000}"
HOSTILE = {
    "long": "replace f\ndef f(xs):\n    return " + "1 + " * 25_000 + "1",
    "nested": f"replace f\n{NESTED}",
    "chain": f"after f\nx = {'-' * 3000}1",
    "sum": f"after f\nx = {'1+' * 4000}1",
    "attributes": f"after f\nx = y{'.a' * 4000}",
    "null": "replace f\ndef f(xs):\n    return '\x00'",
    "half": "replace f\ndef f(xs):\n    return '\ud800'",
    "number": f"after f\nx = 0x{'f' * 9000}",
    "many deletes": "delete f\n" * 10_000,
    "many lines": "nothing\n" * 10_000,
    "many renames": "".join(f"rename a{n} b{n}\n" for n in range(10_000)),
    "deep path": "delete " + ".".join(["f"] * 10_000),
    "inserts": "before f\n" + "\n".join(f"v{n} = {n}" for n in range(900)),
    "indented": "replace f\n" + "\n".join(" " * n + "if 1:" for n in range(120)),
    "pass": "replace f\nclass f:\n  def f(self): yield\n  async def g(self): await f\nawait f",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_take_no_time_and_leave_a_program(name: str) -> None:
    began = time.process_time()
    for said in (read(HOSTILE[name]), retyped(HOSTILE[name], PROGRAM)):
        found = apply(PROGRAM, {"ann": said.operations, "bob": said.operations[:4]}, 8)
        assert compile_fault(found.program) is None and len(found.program) <= LONGEST
        diagnose(found.program, dict([signature("f(xs)")]))
    assert time.process_time() - began < 2.0


@settings(max_examples=50)
@given(st.lists(st.sampled_from([*"fgx"]).flatmap(lambda name: st.sampled_from(_lines(name))), max_size=5), st.data())
@example(["rename f g", "rename g f"], None)
def test_any_operations_leave_a_program_that_compiles(lines: list[str], data: st.DataObject | None) -> None:
    other = data.draw(st.permutations(lines)) if data else []
    found = done("\n".join(lines), "\n".join(other))
    assert compile_fault(found.program) is None


def _lines(name: str) -> list[str]:
    kinds: tuple[Kind, ...] = WITH_CODE
    code = textwrap.dedent(f"""
        def {name}(xs):
            return aux(xs)""")
    return [*(f"{kind} {name}{code}" for kind in kinds), f"delete {name}", f"rename {name} aux", f"rename aux {name}"]
