"""What a tree is worth to a brief: a weighted share of checks, less what is unfinished.

    worth = sum of weight * share of the check - unfinished * files with an unfinished part

The weights of a brief sum to 1, so that the empty tree is worth 0 and a project that passes everything 1. What models
wrote runs in the sandbox alone, each of three runs in processes of their own: the acceptance tests, the project's own
tests on its own module, and these on its module with the brief's broken function put in. Tests that pass there too, or
that are none, count for nothing.

Not covered: a test file that tells the broken module by other marks than by what the function returns.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from madrigal.tasks.coding.reward import Judge
from madrigal.tasks.coding.sandbox import CallTest, Verdict
from madrigal.tasks.coding.sandbox import Program as Run
from madrigal.tasks.coding.syntax import parse
from madrigal.tasks.editing.diagnose import diagnose, signature
from madrigal.tasks.project.brief import INDEX, Asked, Brief, Program, module_name, tests_of
from madrigal.tasks.project.pages import Page, page_of, target
from madrigal.tasks.project.tree import Tree

PROGRAM = {"module": 0.4, "tests": 0.25, "command": 0.2, "readme": 0.15}
SITE = {"html": 0.3, "titles": 0.15, "words": 0.2, "links": 0.2, "reach": 0.15}
_MARK = re.compile(r"\b(?:TODO|FIXME)\b|(?i:lorem ipsum)")
CALL, OWN_TESTS = "_call", "_own_tests"
# Runs in the sandbox, before what models wrote. Modules are made of texts: no file can be read there.
_HARNESS = """
import importlib, importlib.abc, importlib.util, sys

class _Tree(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        folder = any(other.startswith(name + ".") for other in _FILES)
        return importlib.util.spec_from_loader(name, self, is_package=folder) if folder or name in _FILES else None

    def exec_module(self, module):
        exec(compile(_FILES.get(module.__name__, ""), module.__name__, "exec"), vars(module))

sys.meta_path.insert(0, _Tree())

def _call(module, name, *arguments):
    return getattr(importlib.import_module(module), name)(*arguments)

def _own_tests(module):
    space = vars(importlib.import_module(module))
    tests = [test for name, test in space.items() if name.startswith("test_") and callable(test)]
    if not tests:
        raise LookupError("no function test_...")
    try:
        for test in tests:
            test()
    except Exception:
        return False
    return True
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        shares: from 0 to 1, of each check of the brief; none where nothing was judged.
        unfinished: files with an unfinished part, and which.
        told: what a team may know of it: no test is given away.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    @property
    def quality(self) -> float:
        """The weighted share of checks that pass."""
        weights = PROGRAM if "module" in self.shares else SITE
        return math.fsum(weights[check] * share for check, share in self.shares.items())


def report_of(brief: Brief, files: Tree, judge: Judge | None) -> Report:
    """What a tree comes to.

    Args:
        judge: runs programs; without one only what can be read off the texts is told.
    """
    missing = [path for path in brief.files if path not in files]
    shares, told = dict[str, float](), [f"missing: {', '.join(missing)}"] if missing else []
    if brief.program:
        told += _underlined(brief.program, files)
        if judge:
            shares, failures = _program_shares(brief.program, files, judge)
            told += failures
    else:
        seen = {path: page_of(text) for path, text in files.items() if path.endswith(".html")}
        told += [f"{path}: {fault}" for path, page in seen.items() for fault in page.faults[:1]]
        told += [
            f"{path}: no {link} to link to" for path, page in seen.items() for link in _broken(path, page, files)[:1]
        ]
        shares = _site_shares(brief.pages, files, seen) if judge else {}
    return Report(shares, unfinished(files), tuple(told))


def unfinished(files: Tree) -> tuple[str, ...]:
    """The files with an unfinished part: nothing in them, a mark, or a function without a body.

    >>> unfinished({"a.py": "def f(x):\\n    pass", "b.txt": "Lorem ipsum", "c.md": " ", "d.py": "x = 1"})
    ('a.py: f has no body', 'b.txt: Lorem ipsum', 'c.md: empty')
    """
    found = {path: _unfinished_part(path, text) for path, text in files.items()}
    return tuple(f"{path}: {part}" for path, part in found.items() if part)


def _unfinished_part(path: str, text: str) -> str:
    if not text.strip():
        return "empty"
    if mark := _MARK.search(text):
        return mark[0]
    tree = parse(text) if path.endswith(".py") else None
    for node in ast.walk(tree) if isinstance(tree, ast.Module) else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and all(map(_does_nothing, node.body)):
            return f"{node.name} has no body"
    return ""


def _does_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Raise(exc=ast.Name(id=name) | ast.Call(func=ast.Name(id=name))):
            return name == "NotImplementedError"
    return False


def _underlined(program: Program, files: Tree) -> list[str]:
    """What an editor underlines in the Python files."""
    asked = {program.module: dict([signature(program.function)]), program.command: dict([signature("main(argv)")])}
    return [
        f"{path}: {each}"
        for path, text in files.items()
        if path.endswith(".py")
        for each in diagnose(text, asked.get(path, {}))
        if not _is_own(each.text, files)
    ]


def _is_own(text: str, files: Tree) -> bool:
    """Whether a complaint is about an import of the project's own, or a test that nothing calls."""
    name, _, complaint = text.partition(" ")
    foreign = complaint == "is not in the standard library"
    own = {module_name(path).partition(".")[0] for path in files if path.endswith(".py")}
    return (foreign and name in own) or (complaint == "is not used" and name.startswith("test_"))


def _program_shares(program: Program, files: Tree, judge: Judge) -> tuple[dict[str, float], list[str]]:
    words = files.get(program.readme, "")
    shares = {**dict.fromkeys(PROGRAM, 0.0), "readme": (_says(words, program.name) + _says(words, program.command)) / 2}
    told = list[str]()
    if program.module in files or program.command in files:
        verdicts = judge.run(Run(harness(files), CALL, tests_of(program)))
        parts = {"module": verdicts[: len(program.tests)], "command": verdicts[len(program.tests) :]}
        for name, part in parts.items():
            shares[name] = sum(verdict.outcome == "passed" for verdict in part) / max(1, len(part))
            told += [f"{name}: {verdict.message}" for verdict in part if verdict.outcome not in ("passed", "failed")][
                :1
            ]
            told.append(f"{name}: {shares[name]:.0%} of its tests")
    if program.module in files and program.test_file in files:
        own = _own(program, files, judge, right=True)
        found = "" if own.outcome == "passed" else "fail on your module" if own.outcome == "failed" else own.message
        if not found:
            broken = {**files, program.module: f"{files[program.module]}\n\n\n{program.broken}"}
            caught = _own(program, broken, judge, right=False)
            found = "" if caught.outcome == "passed" else "pass on a broken module too"
        shares["tests"] = float(not found)
        told += [f"tests: {found}"] if found else []
    return shares, told


def _own(program: Program, files: Tree, judge: Judge, *, right: bool) -> Verdict:
    """Whether the project's own tests pass, where they are to pass, and fail where they are to fail."""
    test = CallTest(f"({module_name(program.test_file)!r},)", repr(right))
    return judge.run(Run(harness(files), OWN_TESTS, (test,)))[0]


def harness(files: Tree) -> str:
    """The source that makes modules of a tree's Python files; it is for the sandbox, and for nothing else."""
    texts = {module_name(path): text for path, text in files.items() if path.endswith(".py")}
    return f"_FILES = {texts!r}\n{_HARNESS}"


def _site_shares(asked: Mapping[str, Asked], files: Tree, seen: Mapping[str, Page]) -> dict[str, float]:
    pages = {path: seen[path] for path in asked if path in seen}
    words = [path in pages and _says(pages[path].text, word) for path, page in asked.items() for word in page.words]
    reached = _reached(INDEX, seen) if INDEX in pages else set[str]()

    def share(*passed: bool) -> float:
        return sum(passed) / len(asked)

    return {
        "html": share(*(not page.faults and bool(page.text) for page in pages.values())),
        "titles": share(*(page.title.casefold() == asked[path].title.casefold() for path, page in pages.items())),
        "words": sum(words) / max(1, len(words)),
        "links": share(*(_has_links(path, page, files) for path, page in pages.items())),
        "reach": sum(path in reached for path in asked if path != INDEX) / (len(asked) - 1),
    }


def _has_links(path: str, page: Page, files: Tree) -> bool:
    """Whether a page links to another of its site, and to none that does not exist."""
    within = {target(path, link) for link in page.links} - {None, path}
    return bool(within) and not _broken(path, page, files)


def _broken(path: str, page: Page, files: Tree) -> Sequence[str]:
    """The links within the site that lead to no file."""
    return [link for link in page.links if (there := target(path, link)) is not None and there not in files]


def _reached(start: str, pages: Mapping[str, Page]) -> set[str]:
    """The pages that links lead to from a first one, itself included."""
    reached, waiting = {start}, [start]
    while waiting:
        path = waiting.pop()
        there = {to for link in pages[path].links if (to := target(path, link)) in pages} - reached
        reached |= {to for to in there if to is not None}
        waiting += [to for to in there if to is not None]
    return reached


def _says(text: str, word: str) -> bool:
    """Whether a text has a word, whole and in any case."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None
