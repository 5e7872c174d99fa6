"""Operations of several agents applied to one program, what of them was refused, and where they contradict each other.

All operations of a turn name things as the program stands that everybody was shown. Of two agents these conflict,
unless they are equal, which counts once:

- both replace or delete one thing, or one of them a part of what the other does;
- one inserts beside what the other deletes, or inside of what the other replaces;
- both define one name anew, by code, an import or a rename; or one defines what the other changes or takes away;
- one renames a name, and the other deletes it or renames it otherwise.

Of a conflict neither operation is applied. What is left takes effect in the order of the agents and, of each, in the
order of its lines; then the renames do, so that code may be written in the old names or the new ones. The program is
changed as a syntax tree and written anew, which loses comments; what would not compile is refused, so that a program
that compiled still does. Nothing is executed.
"""

from __future__ import annotations

import ast
import keyword
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from madrigal.tasks.coding.score import Fault
from madrigal.tasks.coding.syntax import bound_names, changed_names, compile_fault, mentioned, parse
from madrigal.tasks.editing.operations import WITH_CODE, Operation
from madrigal.types import AgentId

LONGEST = 10_000  # characters of a program, and of the code of an operation; a longer one is refused unread
RETURN = "return"  # the path of a function's last `return`

Own = tuple[AgentId, Operation]


class Refused(Exception):  # noqa: N818 - the agent's mistake, no error of the library
    """Why an operation was not applied."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of the operations of one turn.

    Attributes:
        program: after all that was applied.
        refused: of each agent what was not applied by its own fault, and why.
        conflicts: pairs of operations that contradict each other.
        count: operations that were applied.
    """

    program: str
    refused: Mapping[AgentId, tuple[str, ...]]
    conflicts: tuple[str, ...] = ()
    count: int = 0


def counted(
    before: Mapping[str, float], count: int, refused: Iterable[Sequence[str]], conflicts: Sequence[str]
) -> dict[str, float]:
    """Counts of an episode with those of one more turn: operations that were applied and refused, conflicts.

    >>> counted({"applied": 2.0}, 1, [("delete k (no k)",), ()], [])
    {'applied': 3.0, 'refused': 1.0, 'conflicts': 0.0}
    """
    now = {"applied": count, "refused": sum(map(len, refused)), "conflicts": len(conflicts)}
    return {name: before.get(name, 0.0) + number for name, number in now.items()}


@dataclass(frozen=True, slots=True)
class _Claims:
    """What an operation has to do with the paths of a program.

    Attributes:
        changed: what it replaces or deletes.
        gone: what is no more under that name after it.
        made: names that it brings.
        at: where it inserts.
    """

    changed: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    at: frozenset[str] = frozenset()


def apply(program: str, said: Mapping[AgentId, Sequence[Operation]], most: int, longest: int = LONGEST) -> Applied:
    """Applies the operations of all agents to a program, the first `most` of each.

    What would make the program longer than `longest` characters is refused.

    >>> said = {"ann": [Operation("rename", "f", "g")], "bob": [Operation("delete", "h")]}
    >>> apply("def f():\\n    return 1", said, 9)
    Applied(program='def g():\\n    return 1', refused={'ann': (), 'bob': ('delete h (no h)',)}, conflicts=(), count=1)
    """
    refused: dict[AgentId, list[str]] = {agent: [] for agent in said}
    fit = list[Own]()
    for agent, operations in said.items():
        for operation in operations[:most]:
            if reason := _unfit(operation):
                refused[agent].append(f"{operation.line} ({reason})")
            elif not _changes_nothing(program, operation) and not _is_said(operation, agent, fit):
                fit.append((agent, operation))
        if len(operations) > most:
            refused[agent].append(f"{operations[most].line} (one too many, {most} a turn)")
    claims = {operation: _claims(operation) for _, operation in fit}
    pairs = [
        (one, two) for one, two in combinations(fit, 2) if one[0] != two[0] and _clash(claims[one[1]], claims[two[1]])
    ]
    taken = {own for pair in pairs for own in pair}
    count = 0
    for agent, operation in sorted((own for own in fit if own not in taken), key=lambda own: own[1].kind == "rename"):
        try:
            program = _edited(program, operation, longest)
            count += 1
        except Refused as reason:
            refused[agent].append(f"{operation.line} ({reason})")
    conflicts = tuple(f"{one[1].line} ({one[0]}), {two[1].line} ({two[0]})" for one, two in pairs)
    return Applied(program, {agent: tuple(lines) for agent, lines in refused.items()}, conflicts, count)


def num_changed(before: str, after: str) -> int:
    """Lines that one of two programs has and the other has not; where they stand does not count.

    >>> num_changed("a = 1\\nb = 2", "b = 2\\na = 3")
    2
    """
    one, two = (Counter(filter(str.strip, text.split("\n"))) for text in (before, after))
    return ((one - two) + (two - one)).total()


def without_dead(program: str, asked: Collection[str]) -> str:
    """The program without functions that a later one of their name hides, and those that nobody calls or asked for.

    Where that would leave nothing, the program as it is.
    """
    tree = _tree(program)
    last = {name: node for node in tree.body for name in bound_names(node)}
    names = [mentioned(node) for node in tree.body]

    def alive(place: int, node: ast.stmt) -> bool:
        if not isinstance(node, ast.FunctionDef):
            return True
        called = any(node.name in other for n, other in enumerate(names) if n != place)
        return last[node.name] is node and (node.name in asked or called)

    left = [node for place, node in enumerate(tree.body) if alive(place, node)]
    return ast.unparse(ast.Module(left, [])) if left else program


def _unfit(operation: Operation) -> str:
    """Why an operation can be applied to no program; "" where it can."""
    if operation.kind == "rename" and keyword.iskeyword(operation.new):
        return f"{operation.new} is a keyword"
    if operation.kind not in (*WITH_CODE, "add"):
        return ""
    if len(operation.code) > LONGEST:
        return f"more than {LONGEST} characters"
    tree = parse(operation.code)
    if isinstance(tree, Fault):
        return f"line {tree.line}: {tree.message}" if tree.line else tree.message
    if not tree.body:
        return "no code below it"
    imports = len(tree.body) == 1 and isinstance(tree.body[0], ast.Import | ast.ImportFrom)
    return "one import, on a line of its own" if operation.kind == "add" and not imports else ""


def _changes_nothing(program: str, operation: Operation) -> bool:
    """Whether the program has it already: the same import, the same code in that place."""
    try:
        tree, new = _tree(program), [ast.unparse(node) for node in _statements(operation)]
        if operation.kind == "add":
            return new[0] in map(ast.unparse, tree.body)
        body, place = _find(tree, operation.target) if operation.kind == "replace" else ([], 0)
        return bool(body) and new == [ast.unparse(body[place])]
    except (Refused, RecursionError, ValueError):
        return False


def _is_said(operation: Operation, agent: AgentId, fit: Sequence[Own]) -> bool:
    """Whether another agent says the same; who says something twice means it."""
    return any(other == operation and who != agent for who, other in fit)


def _statements(operation: Operation) -> list[ast.stmt]:
    return _tree(operation.code).body


def _tree(source: str) -> ast.Module:
    """The tree of a text that is known to parse."""
    tree = parse(source)
    if isinstance(tree, Fault):
        raise Refused(tree.message)
    return tree


def _claims(operation: Operation) -> _Claims:
    target = frozenset({operation.target})
    if operation.kind == "rename":
        return _Claims(gone=target, made=frozenset({operation.new}))
    if operation.kind == "delete":
        return _Claims(changed=target, gone=target)
    scope = operation.target.rpartition(".")[0]
    names = {name for statement in _statements(operation) for name in bound_names(statement)}
    made = frozenset(f"{scope}.{name}".lstrip(".") for name in names)
    if operation.kind == "replace":
        return _Claims(changed=target, made=made - target)
    return _Claims(made=made, at=target if operation.kind != "add" else frozenset())


def _clash(one: _Claims, two: _Claims) -> bool:
    same = one.made & two.made or one.gone & two.gone
    overlap = any(_within(a, b) or _within(b, a) for a in one.changed for b in two.changed)
    return bool(same) or overlap or _disturbs(one, two) or _disturbs(two, one)


def _disturbs(one: _Claims, two: _Claims) -> bool:
    """Whether one brings what the other takes away, or changes the ground on which the other inserts."""
    ground = any(_within(at, path) for at in two.at for path in one.changed if at != path or path in one.gone)
    return bool(one.made & (two.gone | two.changed)) or ground


def _within(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.")


def _edited(program: str, operation: Operation, longest: int) -> str:
    """The program after one operation.

    Raises:
        Refused: saying why it cannot be applied.
    """
    tree = _tree(program)
    match operation.kind:
        case "rename":
            _rename(tree, operation.target, operation.new)
        case "add":
            tree.body[_after_header(tree) : _after_header(tree)] = _statements(operation)
        case "delete":
            body, place = _find_alone(tree, operation.target)
            if len(body) == 1:
                raise Refused("nothing would be left")
            del body[place]
        case "replace":
            body, place = _find_alone(tree, operation.target)
            name, new = operation.target.rpartition(".")[2], _statements(operation)
            if name != RETURN and not any(name in bound_names(node) for node in new):
                raise Refused(f"the code does not define {name}")
            _refuse_doubles([node for node in new if bound_names(node) != {name}], [*body[:place], *body[place + 1 :]])
            body[place : place + 1] = new
        case "before" | "after":
            body, place = _find(tree, operation.target)
            new = _statements(operation)
            _refuse_doubles(new, body)
            place += operation.kind == "after"
            body[place:place] = new
    return _text(tree, longest)


def _text(tree: ast.Module, longest: int) -> str:
    """The text of a tree, if it is a program."""
    try:
        text = ast.unparse(tree)
    except (RecursionError, ValueError) as error:  # a number that is too long to be written
        raise Refused("nested too deeply" if isinstance(error, RecursionError) else str(error)) from error
    if len(text) > longest:
        raise Refused(f"a program of more than {longest} characters")
    if fault := compile_fault(text):
        raise Refused(fault.message)
    return text


def _find(tree: ast.Module, path: str) -> tuple[list[ast.stmt], int]:
    """The block that holds what a path names, and its place there."""
    *outer, last = path.split(".")
    body = tree.body
    for name in outer:
        node = body[_place(body, name, path)]
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            raise Refused(f"{name} is no function")
        body = node.body
    return body, _place(body, last, path)


def _place(body: Sequence[ast.stmt], name: str, path: str) -> int:
    for place in reversed(range(len(body))):
        if name in bound_names(body[place]) or (name == RETURN and isinstance(body[place], ast.Return)):
            return place
    raise Refused(f"no {path}")


def _find_alone(tree: ast.Module, path: str) -> tuple[list[ast.stmt], int]:
    body, place = _find(tree, path)
    if others := bound_names(body[place]) - {path.rpartition(".")[2]}:
        raise Refused(f"shares its line with {min(others)}")
    return body, place


def _refuse_doubles(new: Sequence[ast.stmt], body: Sequence[ast.stmt]) -> None:
    """Refuses a second definition of one name; a variable may have several values."""
    there = {name for node in body for name in bound_names(node)}
    for node in new:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name in there:
            raise Refused(f"{node.name} is there already")


def _after_header(tree: ast.Module) -> int:
    """The place behind a docstring and imports of the future."""
    place = int(ast.get_docstring(tree, clean=False) is not None)
    while place < len(tree.body):
        match tree.body[place]:
            case ast.ImportFrom(module="__future__"):
                place += 1
            case _:
                break
    return place


def _rename(tree: ast.Module, old: str, new: str) -> None:
    """Renames a name wherever it stands, in every function alike; attributes (`x.old`) are no names."""
    bound = changed_names(tree) | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    if old not in bound | mentioned(tree):
        raise Refused(f"no {old}")
    if {old, new} <= bound:
        raise Refused(f"{new} is there already")
    for node in ast.walk(tree):
        match node:
            case ast.alias(asname=None, name=name) if name == old:
                node.asname = new
            case ast.alias(asname=None, name=name) if name.split(".")[0] == old:
                raise Refused(f"{name} is imported by its path")
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                node.names = [new if name == old else name for name in names]
            case ast.alias():
                node.asname = new if node.asname == old else node.asname
            case _:
                for field, value in ast.iter_fields(node):
                    if value == old and field in ("id", "name", "arg", "rest"):
                        setattr(node, field, new)
