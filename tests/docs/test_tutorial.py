"""The tutorial from its first line to its last: files are written, commands and blocks run in the order of the page."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from madrigal import cli

PAGE = (Path(__file__).parents[2] / "docs/tutorial-own-team.md").read_text()
PART = re.compile(
    r"^```python\n(?:# (?P<file>\w+\.py)\n)?(?P<block>.*?)^```$"
    r"|`(?P<rows>\w+\.jsonl)`,[^`]*?```json\n(?P<json>.*?)^```$"
    r"|^    (?P<command>(?:madrigal|python|pip) [^\n]*)$",
    re.MULTILINE | re.DOTALL,
)
# A starter model in place of SmolLM2, one step, and the shortest of everything.
TINY = {
    "--team.policy.model": "starter:small",
    "--steps": "1",
    "--prompts": "1",
    "--algorithm.width": "2",
    "--sampling.max-new-tokens": "8",
    "--evaluation.examples": "2",
    "--evaluation.timed-examples": "0",
}
SET_UP = ("pip install -e .", "madrigal models fetch smollm2-135m")


def parts() -> Iterator[re.Match[str]]:
    return PART.finditer(PAGE)


def tiny(command: str) -> list[str]:
    """The arguments of a command, on tiny settings where it takes settings."""
    words = shlex.split(command)[1:]
    if "tickets.py:task" not in words or words[0] == "score":
        return words
    resumed = "--resume" in words
    changed = {"--steps": "2"} if resumed else TINY
    kept = [word for flag, word in zip(["", *words], words, strict=False) if not {flag, word} & changed.keys()]
    return [*kept, *(word for pair in changed.items() for word in pair)]


def test_the_tutorial_runs_from_its_first_line_to_its_last(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = list[str]()
    for part in parts():
        if part["file"]:
            Path(part["file"]).write_text(part["block"])
        elif part["block"]:
            exec(compile(part["block"], "a block of the tutorial", "exec"), {})
        elif part["rows"]:
            Path(part["rows"]).write_text(part["json"])
        elif part["command"] in SET_UP:
            continue
        elif part["command"].startswith("python "):
            runpy.run_path(part["command"].removeprefix("python "))
        else:
            commands.append(part["command"].split()[1])
            assert cli.run(tiny(part["command"])) == 0, (part["command"], capsys.readouterr().err)
    assert commands == ["score", "evaluate", "play", "plan", "train", "report", "train", *("play", "play"), *ENDING]
    assert len(Path("tickets.jsonl").read_text().splitlines()) == 48
    assert len(Path("runs/tickets/steps.jsonl").read_text().splitlines()) == 2
    rows = json.loads(Path("runs/compare-tickets/comparison.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["team", "untrained team", "single model", "tuned single model"]


ENDING = ("evaluate", "compare", "ask")


def test_the_scores_that_the_page_shows_are_those_of_its_answers(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in parts():
        if name := part["file"] or part["rows"]:
            Path(name).write_text(part["block"] or part["json"])
    runpy.run_path("make_tickets.py")
    (command,) = (part["command"] for part in parts() if (part["command"] or "").startswith("madrigal score"))
    assert cli.run(command.split()[1:]) == 0
    scored = [json.loads(line)["reward"] for line in capsys.readouterr().out.splitlines()]
    assert scored == [float(number) for number in re.findall(r'^\.\.\. "reward": ([\d.]+),', PAGE, re.MULTILINE)]
    assert scored == pytest.approx([1.0, 0.75, 0.25 / 7])
