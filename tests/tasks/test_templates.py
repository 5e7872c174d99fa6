"""Prompts as settings: which placeholders a template has, and what they become."""

from __future__ import annotations

import json

import pytest

from fakes.coding import PROBLEM
from fakes.command_line import refused
from madrigal import cli
from madrigal.config import from_json, to_json
from madrigal.recipes import RECIPES, recipe
from madrigal.recipes.start import with_changes
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.coding.prompts import CodingPrompts, first_prompt
from madrigal.tasks.writing.prompts import ArxivPrompts, TldrPrompts
from madrigal.types import ConfigError, MadrigalError


@pytest.mark.parametrize(
    ("wording", "message"),
    [
        ("{post} {pots}", r"task.prompts.concise: unknown placeholder 'pots': did you mean post\?"),
        ("{post} {example}", r"task.prompts.concise: unknown placeholder 'example': there are post"),
        ("Summarize the post.", "task.prompts.concise: expected the placeholder {post} in it, got 'Summarize"),
        ("", "expected the placeholder {post} in it, got ''"),
        ("{ post } {post!r} {post", "expected the placeholder {post}"),
        ("{post} \ud800", "task.prompts.concise holds half a character"),
    ],
)
def test_a_template_that_cannot_be_filled_is_one_line(wording: str, message: str) -> None:
    with pytest.raises(MadrigalError, match=message) as refusal:
        TldrPrompts(concise=wording)
    assert "\n" not in str(refusal.value)


def test_every_task_has_placeholders_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"task.prompts.method: unknown placeholder 'post': there are abstract"):
        ArxivPrompts(method="{post}")
    with pytest.raises(ConfigError, match=r"task.prompts.alone: expected the placeholder \{prompt\}"):
        CodingPrompts(alone="Write {entry_point}.")


def test_a_prompt_is_a_setting_of_the_command_line_of_files_and_of_python(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = "task.prompts.detailed: expected the placeholder {post}"
    assert wrong in refused(capsys, "train", "tldr", "--task.prompts.detailed", "Go on.")
    assert "did you mean --task.prompts.concise" in refused(capsys, "train", "tldr", "--task.prompts.concis", "{post}")
    with pytest.raises(ConfigError, match=f"^settings: {wrong}"):
        with_changes(recipe("tldr"), {"task": {"prompts": {"detailed": "Go on."}}})
    run = with_changes(recipe("tldr"), {"task.prompts.detailed": "{post}\nGo on."})
    assert from_json(to_json(run)) == run
    assert json.loads(to_json(run))["task"]["prompts"]["detailed"] == "{post}\nGo on."


def test_experiments_of_before_prompts_were_settings_have_the_same_prompts() -> None:
    for name in ("tldr", "arxiv", "coding"):
        held = json.loads(to_json(RECIPES[name]()))
        del held["task"]["prompts"]
        assert from_json(json.dumps(held)) == RECIPES[name]()


def test_coop_smollm2_tells_each_agent_its_own_function_last() -> None:
    task = recipe("coop-smollm2").task
    assert isinstance(task, Coding)
    helper, main = (first_prompt(PROBLEM, agent, prompts=task.prompts) for agent in task.agents)
    assert helper.startswith(PROBLEM.prompt.strip()) and main.startswith(PROBLEM.prompt.strip())
    assert helper.endswith("```python\ndef aux(x: int):\n    ...\n```")
    assert main.endswith("```python\ndef square_up(x: int):\n    result = aux(...)\n    ...\n```")


def test_the_help_shows_the_wording(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(["train", "coding", "--help"])
    assert "returns useful data for {entry_point}" in " ".join(capsys.readouterr().out.replace("│", " ").split())
