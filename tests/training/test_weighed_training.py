"""A run with a weighed reward and leave-one-out credit: what reaches the records, and that the parts add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fakes.runs import tiny_run
from madrigal.algorithms.group import LEAVE_ONE_OUT_TEAM
from madrigal.rollouts.rewards import overlap
from madrigal.rollouts.topology import Sequential
from madrigal.runs.log import read_lines
from madrigal.settings import RecordsConfig, RewardWeights, Sampling
from madrigal.training.train import train_experiment

TASK = '''
from madrigal.rollouts.task import SingleRound
from madrigal.types import Example

def reward(example, said):
    """The share of odd bytes that ann wrote; bob's words count for nothing."""
    return sum(ord(c) % 2 for c in said["ann"]) / max(1, len(said["ann"]))

task = SingleRound("odd", ("ann", "bob"), [Example(f"train-{n}", {}) for n in range(4)], [Example("test", {})],
                   lambda example, agent: f"{agent}, write {example.id}!", reward)
'''
WEIGHTS = RewardWeights(quality=2, speed=0.5, cost=0.25, time_unit=4, message=0.3, word=0.1, redundancy=0.2)


@pytest.fixture(scope="module")
def folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("task") / "odd_bytes_of_ann.py"
    file.write_text(TASK)
    run = tiny_run(
        model_folder,
        f"{file}:task",
        replace(LEAVE_ONE_OUT_TEAM, width=3, joint_weight=0.0, difference_weight=1.0, scale="none"),
        topology=Sequential(),
        reward=WEIGHTS,
        sampling=Sampling(max_new_tokens=6),
        records=RecordsConfig(transcripts=6),
        steps=1,
    )
    folder = tmp_path_factory.mktemp("run")
    assert train_experiment(run, folder)
    return folder


def test_the_reward_of_a_step_is_the_weighed_sum_of_its_components(folder: Path) -> None:
    (record,) = read_lines(folder / "steps.jsonl")
    part = {name.removeprefix("component/"): value for name, value in record.items() if name.startswith("component/")}
    assert part["quality"] == part["reward"] and part["return_percent"] == pytest.approx(100 * part["quality"])
    assert record["reward"] == pytest.approx(2 * part["quality"] + 0.5 * part["speed"] - 0.25 * part["cost"])
    assert part["response"] == pytest.approx(record["agent/ann/tokens"] + record["agent/bob/tokens"])
    assert part["speed"] == pytest.approx(-part["response"] / 4)
    assert part["cost"] == pytest.approx(0.3 * part["messages"] + 0.1 * part["words"] + 0.2 * part["redundancy"])


def test_agents_are_credited_for_their_own_part(folder: Path) -> None:
    """bob adds no quality: his part is minus what his time, his message, his words and his echo of ann cost."""
    lines = [line for line in read_lines(folder / "episodes.jsonl") if "evaluation" not in line]
    rounds = [{turn["agent"]: turn for turn in line["turns"]} for line in lines]
    for group in (rounds[:3], rounds[3:]):
        parts = [
            -0.5 * said["bob"]["tokens"] / 4 - 0.25 * talk(said["ann"]["text"], said["bob"]["text"]) for said in group
        ]
        mean = sum(parts) / len(parts)
        assert [said["bob"]["advantage"] for said in group] == pytest.approx([part - mean for part in parts])


def talk(ann: str, bob: str) -> float:
    """What the round's messages cost with bob's, less what they cost without."""
    both = [text for text in (ann, bob) if text.strip()]
    return 0.3 * bool(bob.strip()) + 0.1 * len(bob.split()) + 0.2 * overlap(both)
