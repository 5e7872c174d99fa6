"""Cleaning, finding and joining, with the completions that small models really write."""

from __future__ import annotations

import ast
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.tasks.coding.cleaning import clean, kept
from madrigal.tasks.coding.pieces import find_function
from madrigal.tasks.coding.program import combine, preamble, syntax_fault
from madrigal.tasks.coding.score import Fault
from madrigal.tasks.coding.syntax import parse

AUX = "def aux(x):\n    return x + 1"


@pytest.mark.parametrize(
    "completion",
    [
        AUX,
        f"```python\n{AUX}\n```",
        f"```\n{AUX}\n```\nThis adds one.",
        f"Sure, here it is:\n\n```py\n{AUX}\n```\nand then\n```\naux(3)\n```",
        f"```python\n{AUX}",
        f"{AUX}\n```\nHope this helps!",
        f"Here is the helper:\n{AUX}",
        f"{AUX}\n\nIt adds one to x, (nearly) always.",
        f"{AUX}\n\nprint(aux(3))\nassert aux(3) == 4",
        f"{AUX}\n\nif __name__ == '__main__':\n    print(aux(1))",
        f"{AUX}\n\ndef other(x):\n    return (x +",
        f"{AUX}\n\ny = aux(3)",
        f" {AUX}\n\nIt adds one.",
        f"\n\n    {AUX.replace(chr(10), chr(10) + '    ')}\n",
        AUX.replace("\n", "\r\n"),
    ],
)
def test_only_the_function_is_left(completion: str) -> None:
    assert clean(completion) == AUX


def test_imports_constants_and_decorators_stay() -> None:
    text = (
        "import re\nfrom functools import lru_cache\nWORD = re.compile('a')\nSEEN = dict()\n\n"
        "@lru_cache(\n    None)\ndef aux(x):\n    return WORD.findall(x)  # all"
    )
    assert [type(piece.node).__name__ for piece in kept(text)] == [
        *["Import", "ImportFrom", "Assign", "Assign"],
        "FunctionDef",
    ]
    assert clean(text).endswith("@lru_cache(\n    None)\ndef aux(x):\n    return WORD.findall(x)  # all")


def test_imports_and_decorators_stay_between_prose() -> None:
    text = f"Use math (of course):\nimport math\nand then (this)\n@cache\n{AUX}\nThat is (all."
    assert clean(text) == f"import math\n\n@cache\n{AUX}"


def test_values_that_need_effects_or_own_functions_are_dropped() -> None:
    text = f"{AUX}\nx = input()\ny = aux(1)\nz = len('abc')\nw = open('f').read()\nv = (lambda: 3)()"
    assert clean(text) == f"{AUX}\n\nz = len('abc')"


def test_a_sole_broken_function_is_kept_for_the_syntax_level() -> None:
    text = "def main(x):\n    y = aux(x)\n    return y +"
    assert clean(text) == text
    found = find_function(text, "main")
    assert found is not None and found.node is None and found.returns


def test_the_wanted_function_is_not_an_extra() -> None:
    broken = "def main(x):\n    return x +"
    assert clean(f"{AUX}\n\n{broken}") == AUX
    assert clean(f"{AUX}\n\n{broken}", "main") == f"{AUX}\n\n{broken}"
    assert clean(f"{AUX}\n\n{AUX} +", "aux") == AUX
    assert clean(f"{AUX}\n\ndef b(:\n\ndef c(:") == AUX


@pytest.mark.parametrize("stray", ["def first(:\n    pass", "def helper(x):", "def helper(x):\n    return [\n"])
def test_a_stray_broken_function_is_dropped_wherever_it_stands(stray: str) -> None:
    assert clean(f"{stray}\n\n{AUX}") == clean(f"{stray}\n\n{AUX}", "aux") == clean(f"{AUX}\n\n{stray}") == AUX
    assert clean(stray, "aux") == ""


SUM = "def total(xs):\n    return sum(x * x for x in xs)"
FENCED_TEXT = "```python\nimport math\ntotal([1, 2])\n```"
DOCUMENTED = f'def total(xs):\n    """Squares.\n\n{FENCED_TEXT}\n    """\n    return sum(x * x for x in xs)'


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (DOCUMENTED, DOCUMENTED),
        (f"```python\n{DOCUMENTED}\n```\nDone.", DOCUMENTED),
        (f"```{SUM}\n```", SUM),
        (f"Here:\n```python {SUM}```\nIt's it.", SUM),
        (f"\ufeff{SUM}", SUM),
        (f"```\n\ufeff{SUM}\n```", SUM),
        (f"{SUM}\n\nprint(total([1]))\nassert total([1]) == 2\nn = int(input())", SUM),
    ],
    ids=[
        "fence in a docstring",
        "the same, fenced",
        "on the fence",
        "one fence after another",
        "mark",
        "mark",
        "trials",
    ],
)
def test_no_code_is_lost_and_no_trial_is_run(answer: str, code: str) -> None:
    assert clean(answer) == code


@pytest.mark.parametrize(
    "setup",
    [
        "SQ = {}\n\nfor i in range(9):\n    SQ[i] = i * i",
        "def make():\n    return {i: i * i for i in range(9)}\n\nSQ = make()",
        "class Table(dict):\n    pass\n\nSQ = Table()\n\nSQ.update({i: i * i for i in range(9)})",
        "try:\n    from fast import SQ\nexcept ImportError:\n    SQ = {i: i * i for i in range(9)}",
        "Point = namedtuple('Point', 'table')\n\nSQ = Point({i: i * i for i in range(9)}).table",
    ],
    ids=["loop", "own call", "instance", "guarded import", "named tuple of the prompt"],
)
def test_what_sets_up_a_name_that_a_function_reads_stays(setup: str) -> None:
    text = f"{setup}\n\ndef total(xs):\n    return sum(SQ[x] for x in xs)"
    assert clean(text) == text
    assert clean(f"{setup}\n\n{AUX}").count("SQ") <= setup.partition("\n\nfor")[0].count("SQ")


def test_a_name_that_is_only_local_needs_no_setting_up() -> None:
    assert clean(f"x = int(input())\ny = aux(3)\n{AUX}") == AUX


def test_main_cannot_replace_the_helpers_aux_through_the_names_of_the_program() -> None:
    main = "class _:\n    globals()['aux'] = lambda x: 9\n\ndef f(x):\n    return aux(x) or 0"
    names: dict[str, Any] = {}
    exec(combine("", "f", main, AUX), names)
    assert names["f"](1) == 2


LONG = {
    "broken lines at the margin": "def f(x:\n" + "a\n" * 5000,
    "comments": "def f(x):\n" + "# c\n" * 5000,
    "statements": "\n".join(f"y{i} = 1" for i in range(5000)),
    "quotes": "'''\n\"\"\"\n" * 3000,
    "fences": "```\ndef f(x):\n```\n" * 1000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_text_is_read_in_linear_time(text: str) -> None:
    started = time.process_time()
    clean(text, "f")
    assert time.process_time() - started < 1.0  # 0.1 s; by parsing what is left line by line 1.4 s and more


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   \n",
        "no code at all",
        "aux = lambda x: x",
        "async def aux(x):\n    return x",
        "class aux:\n    def aux(self):\n        return 1",
        "def outer():\n    def aux(x):\n        return x\n    return aux",
        f"{AUX}\naux = 3",
        f"{AUX}\nfrom math import sqrt as aux",
        "def auxiliary(x):\n    return x",
        "# def aux(x): return x",
        '"""\ndef aux(x):\n    return x\n"""',
    ],
)
def test_what_is_no_function_of_that_name(answer: str) -> None:
    assert find_function(clean(answer), "aux") is None


@pytest.mark.parametrize(
    ("body", "returns"),
    [
        ("return x", True),
        ("return None", True),
        ("if x:\n        return 1", True),
        ("return", False),
        ("pass", False),
        ("yield x", False),
        ("def inner():\n        return 1", False),
        ("f = lambda: 1", False),
        ("class A:\n        def m(self):\n            return 1", False),
        ("while True:\n        return 1", True),
    ],
)
def test_a_return_with_a_value_in_the_function_itself(body: str, returns: bool) -> None:
    found = find_function(f"def aux(x):\n    {body}", "aux")
    assert found is not None and found.returns is returns


def test_the_last_definition_counts() -> None:
    found = find_function(f"{AUX}\n\ndef aux(y):\n    pass", "aux")
    assert found is not None and found.text.startswith("def aux(y)") and not found.returns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 'a\x00b'", "null"),
        ("x = '\ud800'", "surrogates"),
        ("(" * 5000 + ")" * 5000, "parenthes"),
        ("-" * 100_000 + "1", "nested too deeply"),
    ],
    ids=["null byte", "lone surrogate", "brackets", "minus signs"],
)
def test_whatever_the_parser_refuses_is_a_fault(text: str, message: str) -> None:
    fault = parse(text)
    assert isinstance(fault, Fault) and message in fault.message
    assert find_function(clean(f"{AUX}\n{text}"), "aux") is not None


def test_a_doubtful_escape_is_no_fault_even_where_warnings_are_errors() -> None:
    assert isinstance(parse("x = '\\d'"), ast.Module)


def test_unicode_counts_characters_not_bytes() -> None:
    text = "NAME = 'äöü'; GREET = 'ü'\n\ndef aux(ñ):\n    return 'é' + ñ"
    assert clean(text) == "NAME = 'äöü'\n\nGREET = 'ü'\n\ndef aux(ñ):\n    return 'é' + ñ"


def test_the_helpers_aux_and_mains_entry_point_win() -> None:
    program = combine(
        "import math\n\ndef poly(x):\n    return x\n\ndef f(x: int):\n    'Doc.'\n",
        "f",
        "def aux(x):\n    return 0\n\nfrom os import path as aux\n\ndef f(x):\n    return aux(x)",
        f"{AUX}\n\ndef f(x):\n    return -1",
    )
    given = "import math\n\ndef poly(x):\n    return x"
    assert program == f"{given}\n\n{AUX}\n\ndef f(x):\n    return aux(x)"


def test_a_single_agent_keeps_its_own_aux() -> None:
    assert combine("def f(x):\n    'Doc.'", "f", f"{AUX}\n\ndef f(x):\n    return aux(x)").startswith(AUX)


def test_future_imports_come_first() -> None:
    main = "from __future__ import annotations\n\ndef f(x):\n    return x"
    program = combine("import math\n", "f", main, AUX)
    assert program.startswith("from __future__") and compile(program, "program", "exec")


def test_the_preamble_is_what_the_prompt_defines_besides_the_entry_point() -> None:
    assert preamble("from typing import List\n\ndef g():\n    pass\n\ndef f():\n    'Doc.'", "f") == (
        "from typing import List\n\ndef g():\n    pass"
    )


def test_a_fault_is_placed_in_its_authors_answer() -> None:
    answers = {"helper": AUX, "main": "def f(x):\n    return x +\n"}
    program = combine("", "f", answers["main"], answers["helper"])
    fault = syntax_fault(program, answers)
    assert fault is not None and (fault.line, fault.column, fault.author) == (2, 15, "main")
    assert syntax_fault(AUX, {"helper": AUX}) is None


SNIPPETS = st.lists(
    st.sampled_from(
        [
            *[
                "def aux(x):",
                "    return x",
                "    return (x",
                "import math",
                "x = 1",
                "@cache",
                "```",
                "```python",
            ],
            *[
                "Some prose, here.",
                "",
                "    y = aux(x)",
                "class A:",
                "    pass",
                '"""',
                ")",
                "from os import path",
            ],
        ]
    )
).map("\n".join)


@given(SNIPPETS | st.text())
def test_cleaning_never_raises_and_is_done_once(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert clean(clean(text, "aux"), "aux") == clean(text, "aux")


@given(SNIPPETS)
def test_cleaned_code_that_parses_holds_definitions_only(text: str) -> None:
    tree = parse(clean(text))
    if isinstance(tree, ast.Module):
        allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
        assert all(isinstance(node, allowed) for node in tree.body)
