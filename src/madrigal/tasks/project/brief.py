"""What is asked of a project, read from an example and checked: a module with a command, or a site of linked pages.

    program     {"brief": "...", "module": "tools.py", "function": "double(x)", "tests": [["(2,)", "4"], ...],
                 "broken": "def double(x):\\n    return x + 3", "test_file": "test_tools.py", "command": "run.py",
                 "calls": [[["2"], "4"], ...], "readme": "README.md"}
    site        {"brief": "...", "pages": {"index.html": {"title": "The otter", "words": ["mammal"]}, ...}}

Tests, calls and the broken function are shown to nobody.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from madrigal.tasks.coding.sandbox import CallTest
from madrigal.tasks.coding.syntax import compile_fault
from madrigal.tasks.editing.diagnose import signature
from madrigal.tasks.project.tree import path_fault
from madrigal.types import Example

LONGEST = 4000  # characters of a brief
INDEX = "index.html"


@dataclass(frozen=True, slots=True)
class Program:
    """A module with a test file, a command and a README.

    Attributes:
        module, test_file, command, readme: where these stand.
        function: what the module is asked for, by its name and parameters.
        tests: arguments of the function and what it gives, in source text.
        broken: another definition of the function, which the project's own tests have to tell from a right one.
        calls: arguments of the command's `main` and the text that it gives.
    """

    module: str
    test_file: str
    command: str
    readme: str
    function: str
    tests: tuple[tuple[str, str], ...]
    broken: str
    calls: tuple[tuple[tuple[str, ...], str], ...]

    @property
    def name(self) -> str:
        return signature(self.function)[0]


@dataclass(frozen=True, slots=True)
class Asked:
    """What one page has: its title, and words that a reader finds in it."""

    title: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Brief:
    """What is asked, in words and in checks.

    Attributes:
        program: None of a site.
        pages: of a site, by path; the first one is where a reader begins.
    """

    text: str
    program: Program | None = None
    pages: Mapping[str, Asked] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The files that are asked for, as two builders may share them out."""
        if self.program:
            return (self.program.module, self.program.command), (self.program.test_file, self.program.readme)
        first, *others = self.pages
        return (first,), tuple(others)

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.parts[0], *self.parts[1])


def brief_of(example: Example) -> Brief:
    """The brief of an example.

    Raises:
        ValueError: naming the field, what was expected and what came.
    """
    data = example.data
    text = data["brief"]
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise ValueError(f"expected a brief of 1 to {LONGEST} characters, got {text!r:.80}; shorten it")
    if not data.get("tests") and not data.get("pages"):
        raise ValueError("expected tests of a module, or pages, got a brief without tests; add what it is judged by")
    brief = Brief(text, pages=_pages(data["pages"])) if data.get("pages") else Brief(text, _program(data))
    for path in brief.files:
        if fault := path_fault(path):
            raise ValueError(f"expected paths inside of the project, got {path!r:.80} ({fault}); name another")
    if len(set(brief.files)) < len(brief.files):
        raise ValueError(f"expected files of different names, got {', '.join(brief.files)}; name another")
    return brief


def _program(data: Mapping[str, Any]) -> Program:
    module, test_file, command, readme = (str(data[key]) for key in ("module", "test_file", "command", "readme"))
    for path in (module, test_file, command):
        if not path.endswith(".py"):
            raise ValueError(f"expected a Python file, got {path!r:.80}; name one like tools.py")
    name, _ = signature(data["function"])
    broken = data["broken"]
    if not isinstance(broken, str) or compile_fault(broken) or f"def {name}(" not in broken:
        raise ValueError(f"expected a definition of {name} in broken, got {broken!r:.80}; write one that is wrong")
    calls = tuple(map(_call, data["calls"]))
    return Program(
        module, test_file, command, readme, data["function"], tuple(map(_test, data["tests"])), broken, calls
    )


def _test(row: Any) -> tuple[str, str]:
    match row:
        case [str(arguments), str(expected)] if _is_literal(expected) and isinstance(_value(arguments), tuple):
            return arguments, expected
    raise ValueError(f"expected a test like ['(1, 2)', '3'], got {row!r:.80}; write plain values, arguments as a tuple")


def _call(row: Any) -> tuple[tuple[str, ...], str]:
    match row:
        case [[*argv], str(text)] if all(isinstance(word, str) for word in argv):
            return tuple(argv), text
    raise ValueError(
        f"expected a call like [['1', '2'], '3'], got {row!r:.80}; write words, and the text that is given"
    )


def _pages(pages: Any) -> dict[str, Asked]:
    if not isinstance(pages, Mapping) or len(pages) < 2 or next(iter(pages)) != INDEX:
        raise ValueError(f"expected two pages or more, {INDEX} first, got {pages!r:.80}; add them")
    return {str(path): _asked(page) for path, page in pages.items()}


def _asked(page: Any) -> Asked:
    match page:
        case {"title": str(title), "words": Sequence() as words} if title.strip() and not isinstance(words, str):
            return Asked(title, tuple(map(str, words)))
    raise ValueError(f"expected a page like {{'title': 'The otter', 'words': ['river']}}, got {page!r:.80}; mend it")


def _is_literal(text: str) -> bool:
    return text == "None" or _value(text) is not None


def _value(text: str) -> Any:
    """The value of a literal; None where there is none."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None


def tests_of(program: Program) -> tuple[CallTest, ...]:
    """The acceptance tests of the function, then those of the command, as `checks.CALL` takes them.

    >>> made = Program("t.py", "u.py", "c.py", "R", "f(x)", (("(2,)", "4"),), "", ((("2",), "4"),))
    >>> [test.arguments for test in tests_of(made)]
    ["('t', 'f', 2,)", "('c', 'main', ['2'])"]
    """
    function = f"({module_name(program.module)!r}, {program.name!r}, "
    own = [CallTest(function + arguments.strip().removeprefix("("), expected) for arguments, expected in program.tests]
    main = f"({module_name(program.command)!r}, 'main', "
    return (*own, *(CallTest(f"{main}{list(argv)!r})", repr(text)) for argv, text in program.calls))


def module_name(path: str) -> str:
    """The name by which a Python file is imported.

    >>> module_name("src/tools.py"), module_name("src/__init__.py")
    ('src.tools', 'src')
    """
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
