"""The same prompts in other words: what changes, what stays, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from madrigal.config import from_json, to_json
from madrigal.recipes import recipe
from madrigal.rollouts.play import StepRequest, play
from madrigal.rollouts.task import SingleRound, Task
from madrigal.rollouts.task.asking import ask
from madrigal.rollouts.topology import Parallel
from madrigal.tasks.catalog import TaskConfig, open_task
from madrigal.tasks.coding.config import ALONE, Coding
from madrigal.tasks.coding.feedback import REVISE
from madrigal.tasks.discussion.debate import Debate
from madrigal.tasks.discussion.gsm8k import _AGAIN, Gsm8k
from madrigal.tasks.discussion.prompts import AGAIN, question_prompt
from madrigal.tasks.reworded import REWORDABLE, WORDS, read_words, reworded
from madrigal.tasks.writing.single import DELIMITER, WRITER
from madrigal.tasks.writing.task import Arxiv, Tldr
from madrigal.types import Completion, ConfigError, Example, Point, Turn

CONFIGS: list[TaskConfig] = [
    Tldr(),
    Tldr(agents=WRITER),
    Arxiv(),
    Arxiv(agents=WRITER),
    Coding(unconfined=True),
    Coding(unconfined=True, agents=ALONE),
    Gsm8k(),
    Debate(),
]


def prompts(task: Task[Any]) -> dict[str, str]:
    state = task.reset(task.examples("train")[0])
    return {agent: task.observe(state, agent, ())[0].content for agent in task.acting(state)}


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_every_agent_of_every_task_here_is_told_the_same_in_other_words(config: TaskConfig) -> None:
    assert isinstance(config, REWORDABLE)
    with open_task(config) as task:
        plain, other = prompts(task), prompts(reworded(task, "embedded"))
    for agent, text in plain.items():
        assert text != other[agent] and 0.8 < len(other[agent]) / len(text) < 1.2
        for kept in (DELIMITER, "aux(", "The answer is", "def "):
            assert text.count(kept) == other[agent].count(kept)


def test_every_phrase_stands_in_a_prompt() -> None:
    """Or a change of a prompt would leave it as it was, in silence."""
    shown = [_AGAIN, AGAIN, REVISE, question_prompt("Which?", ("A", "B"))]
    for config in CONFIGS:
        with open_task(config) as task:
            shown += prompts(task).values()
    assert not [phrase for phrase in WORDS if not any(phrase in text for text in shown)]


def greet(words: str, tmp_path: Path) -> Task[Any]:
    task = SingleRound(
        name="greet",
        agents=("ann", "bob"),
        train=(Example("0", {"name": "Ada"}),),
        test=(Example("1", {"name": "Bob"}),),
        prompt=lambda example, agent: f"Greet {example.data['name']}." if agent == "ann" else "Say hello.",
        reward=lambda example, said: float(example.data["name"] in said["ann"]),
    )
    (tmp_path / "words.json").write_text(words)
    return reworded(task, str(tmp_path / "words.json"))


def test_an_own_task_is_reworded_by_a_file_and_else_the_same(tmp_path: Path) -> None:
    task = greet(json.dumps({"Greet": "Say good morning to", "Say hello.": "Salute."}), tmp_path)
    example = task.examples("test")[0]
    assert ask(task, "Eve").data == {"name": "Eve"}
    moves = play(task, Parallel(), Point(example.id, task.reset(example)))
    asked = next(moves)
    assert {agent: shown[0].content for agent, shown in asked.prompts.items()} == {
        "ann": "Say good morning to Bob.",
        "bob": "Salute.",
    }
    judged = moves.send({"ann": Completion("Hi Bob"), "bob": Completion("Hi")})
    assert isinstance(judged, StepRequest)
    assert task.step(judged.state, judged.actions).rewards == {"ann": 1.0, "bob": 1.0}


def test_what_a_prompt_quotes_stays() -> None:
    """An abstract, code or an answer that holds a phrase of the prompt is data."""
    with open_task(Gsm8k()) as task:
        state = task.reset(Example("0", {"question": "Ada reads: Solve it step by step. Why?", "answer": "7"}))
        heard = [Turn("b", (), Completion("Think step by step. I did."))]
        agent = task.agents[0]
        plain = task.observe(state, agent, heard)[0].content
        other = reworded(task, "embedded").observe(state, agent, heard)[0].content
    assert plain.count("step by step") == 3 and other.count("step by step") == 2
    assert "Ada reads: Solve it step by step. Why?" in other and "Think step by step. I did." in other


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ('{"Greet": "Say good morning to"}', "no phrase of .*words.json stands in the prompt of bob of greet"),
        ("{}", "expected phrases and what stands for them, as one JSON object, got {}"),
        ('["Greet"]', "as one JSON object, got .'Greet'"),
        ('{"Greet": "Greet"}', "expected other words, as a text, for 'Greet', got 'Greet'"),
        ('{"Greet": 3}', "expected other words, as a text, for 'Greet', got 3"),
        ('{"": "x"}', "expected other words, as a text, for ''"),
        ("{", "words.json is not JSON in UTF-8"),
    ],
)
def test_words_that_change_nothing_are_one_line(tmp_path: Path, words: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        greet(words, tmp_path)


def test_words_that_are_not_there_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"none.json could not be read \(No such file or directory\)"):
        read_words("none.json")


def test_an_experiment_says_how_its_prompts_are_worded() -> None:
    run = recipe("tldr")
    assert run.reworded == "" and from_json(to_json(run)) == run
