"""Operations that change a program: the lines in which agents write them, and how an answer is read.

    replace aux.return                  replace, before and after take the lines of code below them
    return [x for x in xs if x > 0]
    rename sift aux
    delete old
    add import math

No such line is Python, so that code needs no marks; a line of a text in quotes that reads like one begins an operation
all the same. Names are paths in the syntax tree: `aux` is the top-level statement that binds it (the last one, as when
Python runs them), `aux.ys` the one in the body of `aux` that binds `ys`, `aux.return` the last `return` of that body.
Nothing is executed, and nothing is looked up in a program here.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from madrigal.tasks.coding.cleaning import LONGEST, kept
from madrigal.tasks.coding.pieces import Piece, plain_lines
from madrigal.tasks.coding.syntax import bound_names, parse

Kind = Literal["replace", "before", "after", "rename", "delete", "add"]
WITH_CODE: tuple[Kind, ...] = ("replace", "before", "after")
SHOWN = 40  # characters of a line that was not read

_NAME = r"[^\W\d]\w*"
_LINE = re.compile(
    rf"(?P<kind>replace|before|after|delete)[ \t]+(?P<target>{_NAME}(?:\.{_NAME})*)"
    rf"|rename[ \t]+(?P<old>{_NAME})[ \t]+(?P<new>{_NAME})"
    r"|add[ \t]+(?P<code>(?:import|from)[ \t].+)"
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of a program.

    Attributes:
        target: the path of what is changed or inserted at; of a rename the old name, of an import "".
        new: the new name of a rename.
        code: statements that are put in; of an import the import.
    """

    kind: Kind
    target: str = ""
    new: str = ""
    code: str = ""

    @property
    def line(self) -> str:
        """The line that it begins with.

        >>> Operation("rename", "sift", "aux").line, Operation("add", code="import math").line
        ('rename sift aux', 'add import math')
        """
        return " ".join(filter(None, (self.kind, self.target, self.new, self.code if self.kind == "add" else "")))


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it was read.

    Attributes:
        operations: in order.
        unread: lines that belong to none of them.
    """

    operations: tuple[Operation, ...] = ()
    unread: tuple[str, ...] = ()


def read(answer: str) -> Said:
    """The operations of an answer, and the lines that belong to none; fences of markdown are passed over.

    >>> read("Let me see.\\ndelete old\\nbefore main\\ndef aux(x):\\n    return x").unread
    ('Let me see.',)
    """
    found, code, unread = list[Operation](), list[list[str]](), list[str]()
    for line in plain_lines(answer[:LONGEST]).split("\n"):
        if match := _LINE.fullmatch(line.rstrip()):
            kind = match["kind"] or ("rename" if match["old"] else "add")
            target = match["target"] or match["old"] or ""
            found.append(Operation(cast(Kind, kind), target, match["new"] or "", match["code"] or ""))
            code.append([])
        elif line.startswith("```"):
            continue
        elif found and found[-1].kind in WITH_CODE:
            code[-1].append(line)
        elif line.strip():
            unread.append(line.strip()[:SHOWN])
    whole = (
        Operation(each.kind, each.target, each.new, each.code or _level(lines))
        for each, lines in zip(found, code, strict=True)
    )
    return Said(tuple(whole), tuple(unread))


def written(operations: Iterable[Operation]) -> str:
    """The lines of operations; `read` gives the same operations again.

    >>> print(written([Operation("replace", "f.return", code="return 1"), Operation("delete", "g")]))
    replace f.return
    return 1
    delete g
    """
    return "\n".join(f"{each.line}\n{each.code}" if each.kind in WITH_CODE else each.line for each in operations)


def retyped(answer: str, program: str) -> Said:
    """The operations by which the imports and definitions of an answer take their place in a program.

    What the program has is replaced; what it lacks comes before its first definition. Fences and prose are passed over,
    as in the coding tasks.
    """
    tree = parse(program)
    body = tree.body if isinstance(tree, ast.Module) else []
    names = [name for statement in body for name in bound_names(statement)]
    first = next((n.name for n in body if isinstance(n, ast.FunctionDef)), names[0] if names else "")
    found, unread = dict[str, Operation](), list[str]()
    for piece in kept(answer):
        if not (name := _sole_name(piece)):
            unread.append(piece.text.split("\n")[0][:SHOWN])
        elif isinstance(piece.node, ast.Import | ast.ImportFrom):
            found[name] = Operation("add", code=piece.text)
        elif name in names:
            found[name] = Operation("replace", name, code=piece.text)
        else:
            found[name] = Operation("before", first, code=piece.text)
    return Said(tuple(found.values()), tuple(unread) or (() if found else ("no code",)))


def _sole_name(piece: Piece) -> str:
    """The name that a piece binds; the names of an import; "" for a function that does not parse, and all else."""
    if isinstance(piece.node, ast.Import | ast.ImportFrom):
        return piece.text
    return next(iter(piece.names)) if piece.node is not None and len(piece.names) == 1 else ""


def _level(lines: list[str]) -> str:
    """Code without the indent that its lines share, and without empty lines around it."""
    return textwrap.dedent("\n".join(lines)).strip("\n").rstrip()
