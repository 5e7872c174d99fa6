"""What a tree is worth: every check by hand, pages as a parser sees them, links, unfinished parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.briefs import DATA
from madrigal.tasks.coding.sandbox import Limits, Sandbox
from madrigal.tasks.project.brief import Brief, brief_of
from madrigal.tasks.project.checks import PROGRAM, SITE, Report, report_of, unfinished
from madrigal.tasks.project.pages import page_of, target
from madrigal.types import Example

GOOD = {
    "tools.py": "def double(x):\n    return 2 * x",
    "run.py": "from tools import double\n\ndef main(argv):\n    return str(double(int(argv[0])))",
    "test_tools.py": "from tools import double\n\ndef test_double():\n    assert double(3) == 6",
    "README.md": "double(x), and run.py",
}
SITE_DATA: dict[str, Any] = {
    "brief": "A site",
    "pages": {
        "index.html": {"title": "Otters", "words": ["mammal"]},
        "food.html": {"title": "Food", "words": ["fish", "clams"]},
        "home.html": {"title": "Home", "words": ["river"]},
    },
}
HEAD = "<!DOCTYPE html>\n"
PAGES = {
    "index.html": HEAD + '<title>Otters</title><p>A mammal</p><a href="food.html">f</a> <a href="home.html">h</a>',
    "food.html": HEAD + '<title>Food</title><p>Fish, clams.</p><a href="index.html#top">i</a>',
    "home.html": HEAD + '<title>Home</title><p>River</p><a href="./index.html">i</a>',
}


@pytest.fixture(scope="module")
def judge() -> Iterator[Sandbox]:
    limits = Limits(0.5, 0.5, patience=40, cpu_seconds=2)  # so that a busy machine changes no verdict
    with Sandbox(limits, workers=1, allow_unconfined=True) as sandbox:
        yield sandbox


def shares(judge: Sandbox | None, files: Mapping[str, str], data: Mapping[str, Any] = DATA) -> Report:
    return report_of(brief_of(Example("x", data)), files, judge)


def test_weights_sum_to_one() -> None:
    assert sum(PROGRAM.values()) == pytest.approx(1) and sum(SITE.values()) == pytest.approx(1)


# Programs


def test_a_good_program_passes_everything(judge: Sandbox) -> None:
    found = shares(judge, GOOD)
    assert found.shares == dict.fromkeys(PROGRAM, 1.0) and found.quality == 1
    assert found.told == ("module: 100% of its tests", "command: 100% of its tests")


def test_nothing_is_worth_nothing(judge: Sandbox) -> None:
    found = shares(judge, {})
    assert found.shares == dict.fromkeys(PROGRAM, 0.0) and found.quality == 0
    assert found.told == ("missing: tools.py, run.py, test_tools.py, README.md",)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("tools.py", "def double(x):\n    return min(2 * x, 3)", {"module": 0.5, "tests": 0, "command": 0}),
        ("tools.py", "def double(x):\n    return x +", {"module": 0, "tests": 0, "command": 0}),
        ("run.py", "def main(argv):\n    return 4", {"command": 0}),
        ("run.py", "from tools import double\ndef main(argv):\n    return '4'", {"command": 0.5}),
        ("run.py", "import os\ndef main(argv):\n    return os.environ['HOME']", {"command": 0}),
        ("test_tools.py", "", {"tests": 0}),
        ("test_tools.py", "def test_double():\n    pass", {"tests": 0}),
        ("test_tools.py", "from tools import double\ndef test_double():\n    assert double(2) == 4", {"tests": 0}),
        ("test_tools.py", "from tools import double\ndef test_double():\n    assert double(2) == 5", {"tests": 0}),
        ("test_tools.py", "from tools import double\ndef test_double():\n    raise SystemExit", {"tests": 0}),
        ("test_tools.py", "from tools import double\nassert double(3) == 6\ndef test_x(): pass", {"tests": 0}),
        ("README.md", "See run.py, it doubles", {"readme": 0.5}),
    ],
)
def test_each_check_by_hand(judge: Sandbox, path: str, text: str, expected: dict[str, float]) -> None:
    """A broken version that is right at 2 is only caught elsewhere."""
    found = shares(judge, {**GOOD, path: text})
    assert found.shares == pytest.approx(dict.fromkeys(PROGRAM, 1.0) | expected)
    assert found.quality == pytest.approx(sum(PROGRAM[name] * share for name, share in found.shares.items()))


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"test_tools.py": "def test_double():\n    pass"}, "tests: pass on a broken module too"),
        ({"test_tools.py": "def test_double():\n    assert 0"}, "tests: fail on your module"),
        ({"test_tools.py": "x = 1"}, "tests: LookupError: no function test_..."),
        ({"tools.py": "def double(y, x):\n    return x"}, "tools.py: type: double takes (x), not (y, x)"),
        (
            {"run.py": "import numpy\ndef main(argv):\n    return numpy"},
            "run.py: lint: numpy is not in the standard library",
        ),
    ],
)
def test_what_a_team_is_told(judge: Sandbox, files: dict[str, str], told: str) -> None:
    found = shares(judge, {**GOOD, **files})
    assert told in found.told
    assert not any("expected" in line for line in found.told), "no test is given away"


def test_modules_in_folders_find_each_other(judge: Sandbox) -> None:
    """Folders need no `__init__.py`, and may have one."""
    names = {"tools.py": "src/tools.py", "test_tools.py": "tests/test_tools.py", "run.py": "run.py"}
    data = {**DATA, "module": names["tools.py"], "test_file": names["test_tools.py"]}
    files = {names.get(path, path): text.replace("from tools", "from src.tools") for path, text in GOOD.items()}
    assert shares(judge, files, data).quality == 1
    assert shares(judge, {**files, "src/__init__.py": "import sys"}, data).quality == 1


def test_hostile_programs_are_judged_and_earn_nothing(judge: Sandbox) -> None:
    endless = shares(judge, {**GOOD, "tools.py": "while True: pass"})
    assert endless.shares == {**dict.fromkeys(PROGRAM, 0.0), "readme": 1}
    forged = "import sys\nsys.modules['__main__'].__dict__.clear()\nsys.meta_path.clear()\ndef double(x):\n    return 2"
    assert shares(judge, {**GOOD, "tools.py": forged}).shares["module"] <= 1 / 4


# Sites


def site(files: Mapping[str, str]) -> dict[str, float]:
    return dict(report_of(brief_of(Example("x", SITE_DATA)), files, Silent()).shares)


class Silent:
    def run(self, program: object) -> Any:
        raise AssertionError("a site runs nothing")


def test_a_good_site_passes_everything_and_an_empty_one_nothing() -> None:
    assert site(PAGES) == dict.fromkeys(SITE, 1.0) and site({}) == dict.fromkeys(SITE, 0.0)
    assert report_of(brief_of(Example("x", SITE_DATA)), PAGES, Silent()).quality == 1


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("food.html", "<p>Fish", "<p><b>Fish", {"html": 2 / 3}),
        ("food.html", HEAD, "", {"html": 2 / 3}),
        ("food.html", "<title>Food", "<title>Feud", {"titles": 2 / 3}),
        ("food.html", "clams", "clam", {"words": 3 / 4}),
        ("food.html", "<p>Fish, clams.</p>", "<!--Fish, clams--><script>fish; clams</script>x", {"words": 2 / 4}),
        ("food.html", "index.html#top", "indx.html", {"links": 2 / 3}),
        ("food.html", "index.html#top", "#top", {"links": 2 / 3}),
        ("food.html", "index.html#top", "https://x.org/index.html", {"links": 2 / 3}),
        ("food.html", "index.html#top", "/index.html", {"links": 2 / 3}),
        ("food.html", "index.html#top", "http://[", {"links": 2 / 3}),
        ("index.html", "food.html", "home.html", {"reach": 1 / 2}),
        ("index.html", "food.html", "foot.html", {"links": 2 / 3, "reach": 1 / 2}),
    ],
)
def test_each_check_of_a_site_by_hand(path: str, old: str, new: str, expected: dict[str, float]) -> None:
    assert old in PAGES[path]
    found = site({**PAGES, path: PAGES[path].replace(old, new)})
    assert found == pytest.approx(dict.fromkeys(SITE, 1.0) | expected)


def test_a_page_that_is_not_there_fails_every_check() -> None:
    files = {path: text for path, text in PAGES.items() if path != "home.html"}
    assert site(files) == pytest.approx(
        {"html": 2 / 3, "titles": 2 / 3, "words": 3 / 4, "links": 1 / 3, "reach": 1 / 2}
    )
    told = report_of(brief_of(Example("x", SITE_DATA)), files, Silent()).told
    assert told == ("missing: home.html", "index.html: no home.html to link to")


def test_pages_beyond_those_asked_for_may_lead_from_one_to_the_other() -> None:
    index = PAGES["index.html"].replace("food.html", "more.html")
    more = HEAD + "<title>More</title><p><a href=food.html>x</a></p>"
    assert site({**PAGES, "index.html": index, "more.html": more}) == dict.fromkeys(SITE, 1.0)


def test_what_is_told_of_a_page_without_a_judge() -> None:
    files = {**PAGES, "food.html": PAGES["food.html"].replace("</p>", "</b>")}
    found = report_of(brief_of(Example("x", SITE_DATA)), files, None)
    assert found.shares == {} and found.told[0].startswith("food.html: line 2: Unexpected end tag (b)")


@given(
    st.text(st.sampled_from("<>/!-ab =\"'&;#\n")),
    st.lists(
        st.sampled_from(
            [
                "<b>",
                "</p>",
                "<table>",
                "<td>",
                "</table>",
                "<svg>",
                "<math>",
                "<template>",
                "</template>",
                "<select>",
                "<option>",
                "<frameset>",
                "<plaintext>",
                "<a href=x>",
                "</a>",
                "<form>",
                "</body>",
                "<head>",
                "</html>",
                "<![CDATA[",
                "&#xd800;",
            ]
        )
    ),
)
def test_any_text_is_read_as_a_page(text: str, tags: list[str]) -> None:
    page = page_of(text.join(tags) or text)
    assert isinstance(page.text, str) and all(isinstance(target("a/b.html", link), str | None) for link in page.links)


def test_deep_and_tangled_pages_are_read() -> None:
    assert page_of(HEAD + "<div>" * 1000).faults
    assert page_of(HEAD + '<a href=x b="c"').faults == ("line 2: unexpected EOF after attribute value",)
    assert page_of(HEAD + "<b><i><p>" * 300 + "</b></i>" * 300).faults


# Unfinished parts


@pytest.mark.parametrize(
    ("path", "text", "part"),
    [
        ("a.txt", " \n", "a.txt: empty"),
        ("a.md", "x\nTODO: y", "a.md: TODO"),
        ("a.html", "<p>Lorem Ipsum dolor", "a.html: Lorem Ipsum"),
        ("a.py", "x = 1  # FIXME", "a.py: FIXME"),
        ("a.py", "def f(x):\n    ...", "a.py: f has no body"),
        ("a.py", 'def f(x):\n    """Words."""', "a.py: f has no body"),
        ("a.py", "class A:\n    async def g(self):\n        raise NotImplementedError('x')", "a.py: g has no body"),
    ],
)
def test_unfinished_parts(path: str, text: str, part: str) -> None:
    assert unfinished({path: text}) == (part,)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "def f(x):\n    if x:\n        pass\n    return 1"),
        ("a.py", "def f(x):\n    raise ValueError"),
        ("a.py", "not python"),
        ("a.txt", "pass the todo list, mastodons"),
    ],
)
def test_finished_parts(path: str, text: str) -> None:
    assert unfinished({path: text}) == ()


# Briefs


def test_what_is_read_of_a_brief() -> None:
    program = brief_of(Example("x", DATA))
    assert program.parts == (("tools.py", "run.py"), ("test_tools.py", "README.md"))
    assert brief_of(Example("x", SITE_DATA)).files == ("index.html", "food.html", "home.html")
    assert isinstance(program, Brief) and program.program is not None and program.program.name == "double"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"brief": " "}, "expected a brief of 1 to 4000 characters, got ' '; shorten it"),
        ({"tests": []}, "got a brief without tests; add what it is judged by"),
        (
            {"module": "../tools.py"},
            r"expected paths inside of the project, got '../tools.py' \(outside of the project\)",
        ),
        ({"readme": ""}, "expected paths inside of the project, got ''"),
        ({"readme": "run.py"}, "expected files of different names"),
        ({"command": "run"}, "expected a Python file, got 'run'"),
        ({"tests": [["1", "2"]]}, "expected a test like"),
        ({"tests": [["(f(),)", "2"]]}, "expected a test like"),
        ({"calls": [["2", "4"]]}, "expected a call like"),
        ({"broken": "def other(x): ..."}, "expected a definition of double in broken"),
        ({"function": "double"}, r"expected a function and its parameters, like f\(xs, k\), got 'double'"),
        ({"pages": {"a.html": {}}}, "expected two pages or more, index.html first"),
        ({"pages": {"index.html": {"title": "x", "words": []}, "b.html": "y"}}, "expected a page like"),
        (
            {"pages": {"index.html": {"title": "x", "words": []}, "/b.html": {"title": "y", "words": []}}},
            "got '/b.html'",
        ),
    ],
)
def test_briefs_that_cannot_be(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        brief_of(Example("x", {**DATA, **changed}))
    assert "\n" not in str(error.value)
