"""Files of a project: what answers are read as, which paths there are, and what of a turn takes effect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.tasks.project.tree import MOST, Applied, Change, Room, Said, apply, path_fault, read, written

WIDE = Room(8, 10_000)


def turn(files: dict[str, str] | None = None, room: Room = WIDE, **said: str) -> Applied:
    return apply(files or {}, {agent: read(answer).changes for agent, answer in said.items()}, room)


# Reading


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", Said()),
        ("Sure!\nwrite a.txt\nOne.\n\nTwo.\n", Said((Change("write", "a.txt", "One.\n\nTwo."),), (), ("Sure!",))),
        ("note ann writes a.txt\nBye.", Said((), ("ann writes a.txt",), ("Bye.",))),
        ("remove a.txt\nBye.", Said((Change("remove", "a.txt"),), (), ("Bye.",))),
        ("write a.py\r\n```python\r\nx = 1\r\n```\r\n", Said((Change("write", "a.py", "x = 1"),))),
        ("write a.md\n```\nx\n```", Said((Change("write", "a.md", "```\nx\n```"),))),
        ("edit a.py\nrename x y\nwrite b.txt", Said((Change("edit", "a.py", "rename x y"), Change("write", "b.txt")))),
        ("write a b", Said((), (), ("write a b",))),
        (
            "write a.txt\nWe write a lot.\n\\note this\n\\\\note that",
            Said((Change("write", "a.txt", "We write a lot.\nnote this\n\\note that"),)),
        ),
    ],
)
def test_how_an_answer_is_read(answer: str, said: Said) -> None:
    assert read(answer) == said


LINES = st.sampled_from(
    ["", " x", "write a", "note it ", "\\note it", "\\\\remove b", "edit c\t", "```", "é", "def f(): ..."]
)
TEXTS = st.one_of(st.text(st.characters(exclude_categories=("Cs",))), st.lists(LINES).map("\n".join))


@given(st.lists(st.tuples(st.sampled_from(["a.md", "b/c.md"]), TEXTS)))
def test_what_is_written_is_read_again(files: list[tuple[str, str]]) -> None:
    """Texts without empty lines around them; those have no place in a file."""
    lines = [(path, text.replace("\r\n", "\n").replace("\r", "\n").split("\n")) for path, text in files]
    kept = [(path, [n for n, line in enumerate(text) if line.strip()], text) for path, text in lines]
    changes = tuple(
        Change("write", path, "\n".join(text[full[0] : full[-1] + 1]) if full else "") for path, full, text in kept
    )
    assert read(written(changes)) == Said(changes)


# Paths


@pytest.mark.parametrize("path", ["a", "README.md", "src/tools.py", "a/b/c/d.html", "x-1_y.tar.gz"])
def test_paths_of_a_project(path: str) -> None:
    assert path_fault(path) == ""


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/passwd",
        "C:\\x",
        "C:x",
        "c:/x",
        "a/../../b",
        "a/..",
        "~/x",
        "~root",
        "..\\x",
        "a\\b",
        "//x",
        "\\\\host\\x",
    ],
)
def test_paths_that_lead_out_of_the_project(path: str) -> None:
    assert path_fault(path) == "outside of the project"
    found = turn(ann=f"write {path}\nx")
    assert found.files == {} and found.refused == {"ann": (f"write {path} (outside of the project)",)}


@pytest.mark.parametrize(
    "path",
    [
        ".",
        "./x",
        ".git/config",
        "a/.x",
        "a//b",
        "a/",
        "-rf",
        "a/-x",
        "x.",
        "x..y",
        "%2e%2e/x",
        "a|b",
        "a*",
        "a->b",
        "@x",
        "\uff0e\uff0e/x",
        "\u2024\u2024/x",
        "a\u2215b",
        "r\u0435adme",
        "a\u202eb",
        "a\x00b",
        "a\u200b",
        "x" * 61,
        "a/b/c/d/e",
        "",
    ],
)
def test_paths_that_name_no_file(path: str) -> None:
    """Hidden, empty, escaped, look-alikes, links, options, too long, too deep."""
    assert path_fault(path) not in ("", "outside of the project")
    assert turn(ann=f"write {path}\nx").files == {}


# Effects


def test_operations_of_one_agent_take_effect_in_order() -> None:
    found = turn({"old.py": "y = 1"}, ann="write a.py\nx = 1\nedit a.py\nrename x n\nremove old.py\nwrite b/c.txt\nhi")
    assert found == Applied({"a.py": "n = 1", "b/c.txt": "hi"}, {"ann": ()}, (), 4)


def test_files_are_values() -> None:
    files = {"a.py": "x = 1"}
    assert turn(files, ann="remove a.py").files == {} and files == {"a.py": "x = 1"}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("write a.py\ny = 1", "write a.py\ny = 2"),
        ("write a.py\ny = 1", "edit a.py\nrename x y"),
        ("remove a.py", "write a.py\ny = 1"),
    ],
)
def test_what_two_do_differently_to_one_file_is_not_applied(one: str, two: str) -> None:
    for first, second in ((one, two), (two, one)):
        found = turn({"a.py": "x = 1"}, ann=f"{first}\nwrite ann.txt\nhi", bob=second)
        assert found.files == {"a.py": "x = 1", "ann.txt": "hi"} and found.count == 1
        assert found.conflicts == (f"{first.split(chr(10))[0]} (ann), {second.split(chr(10))[0]} (bob)",)


def test_what_two_do_alike_counts_once() -> None:
    assert turn(ann="write a\nx", bob="write a\nx") == Applied({"a": "x"}, {"ann": (), "bob": ()}, (), 1)


def test_edits_of_two_agents_are_merged_unless_they_contradict() -> None:
    start = {"a.py": "x = 1\nz = 3"}
    merged = turn(start, ann="edit a.py\nrename x y", bob="edit a.py\ndelete z")
    assert merged.files == {"a.py": "y = 1"} and not merged.conflicts
    clash = turn(start, ann="edit a.py\nrename x y", bob="edit a.py\nrename x w")
    assert clash.files == start and clash.conflicts == ("a.py: rename x y (ann), rename x w (bob)",)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("edit b.py\nrename x y", "edit b.py (no b.py)"),
        ("remove b.py", "remove b.py (no b.py)"),
        ("edit a.txt\nrename x y", "edit a.txt (only Python files are edited; write it)"),
        ("edit a.py\nrename q y", "a.py: rename q y (no q)"),
        ("edit a.py\nplease", "a.py: please (no operation)"),
        ("edit broken.py\nrename x y", "broken.py: rename x y (invalid syntax)"),
        ("write a.py/b\nx", "write a.py/b (one path is a folder of the other)"),
        ("write a.py\n\x00", "write a.py (characters that no text file has)"),
        ("write a.py\nx = '\ud800'", "write a.py (characters that no text file has)"),
        ("write a.py\n\x1b[2J", "write a.py (characters that no text file has)"),
    ],
)
def test_what_cannot_be_applied_is_told_to_its_author(answer: str, told: str) -> None:
    files = {"a.py": "x = 1", "broken.py": "x ="}
    found = turn(files, ann=answer, bob="")
    assert found.files == files and found.refused == {"ann": (told,), "bob": ()} and found.count == 0


def test_a_tree_has_bounds() -> None:
    many = "\n".join(f"write f{n}\nx" for n in range(MOST + 2))
    found = turn(room=Room(3, 100), ann=many)
    assert set(found.files) == {"f0", "f1", "f2"} and found.refused["ann"][1] == "write f3 (more than 3 files)"
    assert found.refused["ann"][0] == f"write f{MOST} (one too many, {MOST} a turn)"
    assert turn(room=Room(3, 11), ann="write f\n" + "é" * 5).count == 1, "a path of 1 byte and 5 letters of 2"
    over = turn(room=Room(3, 10), ann="write f\n" + "é" * 5)
    assert over.files == {} and over.refused["ann"] == ("write f (more than 10 bytes in all)",)
    huge = turn(ann="write f\n" + "x" * 1_000_000)
    assert huge.files == {}


def test_a_program_cannot_grow_by_edits_beyond_its_room() -> None:
    found = turn({"a.py": "x = x"}, Room(8, 40), ann=f"edit a.py\nrename x {'y' * 30}")
    assert found.files == {"a.py": "x = x"} and found.refused["ann"] == ("edit a.py (more than 40 bytes in all)",)
