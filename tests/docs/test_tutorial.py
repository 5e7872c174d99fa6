"""The tutorial from its first line to its last: files are written, commands and blocks run in the order of the page."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from madrigal import cli, load_team
from madrigal.serving.pages import team_app
from madrigal.serving.service import TeamService
from madrigal.serving.web import serving

PAGE = (Path(__file__).parents[2] / "docs/tutorial-own-team.md").read_text()
PART = re.compile(
    r"^```python\n(?:# (?P<file>\w+\.py)\n)?(?P<block>.*?)^```$"
    r"|`(?P<rows>\w+\.jsonl)`,[^`]*?```json\n(?P<json>.*?)^```$"
    r"|^    (?P<command>(?:madrigal|python|pip) [^\n]*)$",
    re.MULTILINE | re.DOTALL,
)
# One step, and the shortest of everything.
TINY = {
    "--steps": "1",
    "--prompts": "1",
    "--algorithm.width": "2",
    "--sampling.max-new-tokens": "8",
    "--evaluation.examples": "2",
    "--evaluation.timed-examples": "0",
}
ADDRESS = "http://127.0.0.1:8080"  # where `madrigal serve` listens


def parts() -> Iterator[re.Match[str]]:
    return PART.finditer(PAGE)


def tiny(command: str) -> list[str]:
    """The arguments of a command, on tiny settings where it takes settings."""
    words = shlex.split(command)[1:]
    if words[0] == "analyze":
        return [*words, "--examples", "2"]
    if "calls.py:task" not in words or words[0] == "score":
        return words
    changed = {"--steps": "2"} if "--resume" in words else TINY
    kept = [word for flag, word in zip(["", *words], words, strict=False) if not {flag, word} & changed.keys()]
    return [*kept, *(word for pair in changed.items() for word in pair)]


@contextmanager
def served(command: str) -> Iterator[str]:
    """What `madrigal serve FOLDER --trust` does, on a free port: its address."""
    folder = shlex.split(command)[2]
    service = TeamService(load_team(folder, trust=True), folder)
    with serving(team_app(service)) as url:
        yield url
    service.worker.close(10)


def test_the_tutorial_runs_from_its_first_line_to_its_last(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands, url = list[str](), ADDRESS
    with ExitStack() as stack:
        for part in parts():
            if part["file"]:
                Path(part["file"]).write_text(part["block"])
            elif part["block"]:
                exec(compile(part["block"].replace(ADDRESS, url), "a block of the tutorial", "exec"), {})
            elif part["rows"]:
                Path(part["rows"]).write_text(part["json"])
            elif part["command"].startswith("python "):
                runpy.run_path(part["command"].removeprefix("python "))
            elif part["command"].startswith("madrigal serve "):
                url = stack.enter_context(served(part["command"]))
            elif part["command"].startswith("madrigal ") and "smollm2" not in part["command"]:
                commands.append(part["command"].split()[1])
                assert cli.run(tiny(part["command"])) == 0, (part["command"], capsys.readouterr().err)
    before = ["score", "evaluate", "play", "plan", "train", "report", "train"]
    assert commands == [*before, "play", "play", "evaluate", "analyze", "compare", "ask", "export"]
    assert url != ADDRESS
    assert len(Path("stories.jsonl").read_text().splitlines()) == 300
    assert len(Path("runs/calls/steps.jsonl").read_text().splitlines()) == 2
    rows = json.loads(Path("runs/compare-calls/comparison.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["team", "untrained team", "single model", "tuned single model"]


def test_the_scores_that_the_page_shows_are_those_of_its_answers(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in parts():
        if name := part["file"] or part["rows"]:
            Path(name).write_text(part["block"] or part["json"])
    runpy.run_path("make_stories.py")
    (command,) = (part["command"] for part in parts() if (part["command"] or "").startswith("madrigal score"))
    assert cli.run(command.split()[1:]) == 0
    scored = [json.loads(line)["reward"] for line in capsys.readouterr().out.splitlines()]
    shown = [float(number) for number in re.findall(r'^\.\.\. "reward": ([\d.]+),', PAGE, re.MULTILINE)]
    assert scored == pytest.approx(shown)
    assert shown == [1.0, 0.6, 0.3]
