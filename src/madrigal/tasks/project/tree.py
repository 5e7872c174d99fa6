"""A project in memory: texts by path, the operations that agents write, and how those of a turn take effect together.

    write src/tools.py                  the lines below it are the file, down to the next operation
    def double(x):
        return 2 * x
    edit tools.py                       the lines below it are operations of `tasks.editing`
    rename x n
    remove old.py
    note builder2 writes README.md      for everybody to read, no part of the project

No such line is Python, so that code needs no marks. A line of a file that reads like an operation is written with a
backslash before it, and a line that begins with such backslashes with one more. A tree is a value: nothing here
touches a disk, and no file is executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from madrigal.tasks.coding.cleaning import LONGEST
from madrigal.tasks.coding.pieces import plain_lines
from madrigal.tasks.editing import apply as editing
from madrigal.tasks.editing import operations
from madrigal.types import AgentId

Tree = Mapping[str, str]
Kind = Literal["write", "edit", "remove"]
MOST = 16  # operations of one answer, those on programs too
SHOWN = 40  # characters of a line or path that is told
LONGEST_PATH, DEPTH = 60, 4

_LINE = re.compile(r"(?P<kind>write|edit|remove)[ \t]+(?P<path>\S+)|note[ \t]+(?P<note>\S.*)")
_MARKED = re.compile(r"\\*(?:(?:write|edit|remove)[ \t]+\S+|note[ \t]+\S.*)")
# No part begins with a dot, a dash or anything but these letters: no hidden files, no options, no look-alikes.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FENCE = "```"


@dataclass(frozen=True, slots=True)
class Change:
    """One operation on a file.

    Attributes:
        text: what is written; of an edit its operations, as they were said.
    """

    kind: Kind
    path: str
    text: str = ""

    @property
    def line(self) -> str:
        return f"{self.kind} {self.path[:SHOWN]}"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it was read: operations in order, notes, and lines that belong to neither."""

    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """How much a tree may hold.

    Attributes:
        files: at most.
        size: of all files and their paths, in bytes of UTF-8, since prompts show them: no tokenizer makes more tokens.
    """

    files: int = 8
    size: int = 1000


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of the operations of one turn.

    Attributes:
        files: after all that was applied.
        refused: of each agent what was not applied by its own fault, and why.
        conflicts: what agents did differently to one file.
        count: operations that were applied.
    """

    files: Tree
    refused: Mapping[AgentId, tuple[str, ...]] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    count: int = 0


def path_fault(path: str) -> str:
    """Why a path names no file of a project; "" where it may.

    >>> path_fault("src/tools.py"), path_fault("a/../../b"), path_fault(".profile")
    ('', 'outside of the project', 'no path of letters, digits, _ - . and /')
    """
    parts = path.split("/")
    if "\\" in path or path.startswith(("/", "~")) or re.match("[A-Za-z]:", path) or ".." in parts:
        return "outside of the project"
    if len(path) > LONGEST_PATH or len(parts) > DEPTH:
        return f"a path of more than {LONGEST_PATH} characters or {DEPTH} parts"
    return "" if all(map(_PART.fullmatch, parts)) else "no path of letters, digits, _ - . and /"


def read(answer: str) -> Said:
    """The operations and notes of an answer.

    >>> read("note all is well\\nwrite a.txt\\nOne.\\n\\\\note two\\nremove b.txt").changes
    (Change(kind='write', path='a.txt', text='One.\\nnote two'), Change(kind='remove', path='b.txt', text=''))
    """
    changes, texts, notes, unread = list[Change](), list[list[str]](), list[str](), list[str]()
    below: list[str] | None = None  # where the next lines go
    for line in plain_lines(answer[:LONGEST]).split("\n"):
        if match := _LINE.fullmatch(line.rstrip(" \t")):
            below = None
            if match["note"]:
                notes.append(match["note"])
                continue
            changes.append(Change(cast(Kind, match["kind"]), match["path"]))
            texts.append([])
            below = None if match["kind"] == "remove" else texts[-1]
        elif below is not None:
            below.append(line.removeprefix("\\") if _MARKED.fullmatch(line.rstrip(" \t")) else line)
        elif line.strip() and not line.startswith(_FENCE):
            unread.append(line.strip()[:SHOWN])
    whole = (Change(one.kind, one.path, _text(one.path, lines)) for one, lines in zip(changes, texts, strict=True))
    return Said(tuple(whole), tuple(notes), tuple(unread))


def written(changes: Iterable[Change]) -> str:
    """The lines of operations; `read` gives the same operations again, whatever stands in the files.

    Files end without empty lines here, and only those in Markdown stand in fences.
    """
    return "\n".join(part for one in changes for part in (one.line, *_escaped(one.text)))


def apply(files: Tree, said: Mapping[AgentId, Sequence[Change]], room: Room) -> Applied:
    """Applies the operations of all agents to a tree.

    What several agents do to one file has to be the same, which counts once, or edits, which are merged where they do
    not contradict each other (`editing.apply`). Of anything else neither takes effect, whoever spoke first.

    >>> apply({}, {"ann": [Change("write", "a", "1")], "bob": [Change("write", "a", "2")]}, Room()).conflicts
    ('write a (ann), write a (bob)',)
    """
    refused: dict[AgentId, list[str]] = {agent: [] for agent in said}
    by_path = dict[str, dict[AgentId, list[Change]]]()
    for agent, changes in said.items():
        for change in changes[:MOST]:
            if fault := path_fault(change.path) or _unfit(change):
                refused[agent].append(f"{change.line} ({fault})")
            else:
                by_path.setdefault(change.path, {}).setdefault(agent, []).append(change)
        if len(changes) > MOST:
            refused[agent].append(f"{changes[MOST].line} (one too many, {MOST} a turn)")
    conflicts, count = list[str](), 0
    for path, own in by_path.items():
        first, *others = own.values()
        if all(changes == first for changes in others):
            turns = [{next(iter(own)): [change]} for change in first]
        elif all(change.kind == "edit" for changes in own.values() for change in changes):
            turns = [own]
        else:
            conflicts.append(", ".join(f"{changes[0].line} ({agent})" for agent, changes in own.items()))
            continue
        for turn in turns:
            found = _changed(files, path, turn, room)
            files, count = found.files, count + found.count
            conflicts += found.conflicts
            for agent, lines in found.refused.items():
                refused[agent] += lines
    return Applied(files, {agent: tuple(lines) for agent, lines in refused.items()}, tuple(conflicts), count)


def _changed(files: Tree, path: str, turn: Mapping[AgentId, Sequence[Change]], room: Room) -> Applied:
    """One file after one operation of one agent, or after edits of several."""
    change = next(iter(turn.values()))[0]
    others = {name: text for name, text in files.items() if name != path}
    if change.kind != "write" and path not in files:
        return _refused(files, turn, f"no {path}")
    if change.kind == "remove":
        return Applied(others, count=1)
    found = editing.Applied(change.text, {}, (), 1) if change.kind == "write" else _edited(files[path], turn)
    told = {agent: tuple(f"{path}: {line}" for line in lines) for agent, lines in found.refused.items()}
    conflicts = tuple(f"{path}: {pair}" for pair in found.conflicts)
    if not found.count:
        return Applied(files, told, conflicts)
    if fault := _overfull({**others, path: found.program}, path, room):
        return _refused(files, turn, fault)
    return Applied({**files, path: found.program}, told, conflicts, found.count)


def _edited(program: str, turn: Mapping[AgentId, Sequence[Change]]) -> editing.Applied:
    said = {agent: operations.read("\n".join(each.text for each in changes)) for agent, changes in turn.items()}
    found = editing.apply(program, {agent: one.operations for agent, one in said.items()}, MOST)
    unread = {agent: tuple(f"{line} (no operation)" for line in one.unread) for agent, one in said.items()}
    refused = {agent: (*unread[agent], *lines) for agent, lines in found.refused.items()}
    return editing.Applied(found.program, refused, found.conflicts, found.count)


def _refused(files: Tree, turn: Mapping[AgentId, Sequence[Change]], fault: str) -> Applied:
    return Applied(files, {agent: (f"{changes[0].line} ({fault})",) for agent, changes in turn.items()})


def _unfit(change: Change) -> str:
    if change.kind == "edit" and not change.path.endswith(".py"):
        return "only Python files are edited; write it"
    return "characters that no text file has" if _NO_TEXT.search(change.text) else ""


def _overfull(files: Tree, path: str, room: Room) -> str:
    """Why a tree cannot hold what it would; "" where it can."""
    if any(other.startswith(f"{path}/") or path.startswith(f"{other}/") for other in files):
        return "one path is a folder of the other"
    if len(files) > room.files:
        return f"more than {room.files} files"
    size = sum(len(name) + len(text.encode()) for name, text in files.items())
    return f"more than {room.size} bytes in all" if size > room.size else ""


def _text(path: str, lines: Sequence[str]) -> str:
    """The text of a file, without empty lines around it and without a fence, which only Markdown may have."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    while lines and not lines[0].strip():
        lines = lines[1:]
    if not path.endswith(".md") and len(lines) > 1 and lines[0].startswith(_FENCE) and lines[-1].rstrip() == _FENCE:
        lines = lines[1:-1]
    return "\n".join(lines)


def _escaped(text: str) -> list[str]:
    return [f"\\{line}" if _MARKED.fullmatch(line.rstrip(" \t")) else line for line in text.split("\n")] if text else []
