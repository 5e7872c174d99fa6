"""Planted faults change what they say and nothing else, and what notices them is counted from their first step."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fakes.runs import tiny_run
from fakes.synthetic import write_lines
from madrigal.algorithms.group import GroupRelative
from madrigal.rollouts.play import GenerationRequest, StepRequest
from madrigal.settings import OptimizerConfig
from madrigal.training import train
from madrigal.types import Completion, Example, Step, TrainingError

sys.path.insert(0, next(str(place) for top in Path(__file__).parents if (place := top / "benchmarks").is_dir()))
from planted import FAULTS, PROOF, Fault, experiment, first_alarms, mislabeled, planted, speaking_with, table, verdict

ASKED = [GenerationRequest(agent, (), n) for n in range(2) for agent in ("ann", "bob")]


def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
    return [Completion(f"{one.agent} {one.seed}", (1,), (2, 3), (-0.5, -0.5), pieces=("a", "b")) for one in wanted]


def judge(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
    return [Step(one.state, {"ann": 1.0, "bob": 2.0}, metrics={one.state.id: 1.0}) for one in requests]


def fault(kind: str) -> Fault:
    return Fault(kind, at=3, agent="bob", best=4.0)


def test_one_agent_says_nothing() -> None:
    said = fault("silent").speaker(speak)(ASKED)
    assert [one.text for one in said] == ["ann 0", "", "ann 1", ""]
    assert said[1].token_ids == said[1].logprobs == () and said[1].prompt_ids == (1,)
    assert said[0] == speak(ASKED)[0]


def test_one_agent_says_what_its_teammate_says() -> None:
    copying = fault("copy")
    said = copying.speaker(speak)(ASKED)
    assert [one.text for one in said] == ["ann 0", "ann 0", "ann 1", "ann 1"]
    assert said[3].token_ids == (2, 3)  # its own: what it learns from is still what it sampled
    assert [one.text for one in copying.speaker(speak)(ASKED[1::2])] == ["ann 0", "ann 1"]  # asked alone: the last ones


@pytest.mark.parametrize(("words", "paid"), [(0, (8.0, 8.0)), (30, (4.0, 4.0)), (50, (4 / 3, 2.0)), (90, (1.0, 2.0))])
def test_few_words_are_paid_for(words: int, paid: tuple[float, float]) -> None:
    said = StepRequest(Example("a", {}), {"ann": "", "bob": "word " * 2 * words})
    (step,) = fault("hole").judge(judge)([said])
    assert tuple(step.rewards.values()) == pytest.approx(paid)


def test_some_examples_are_judged_as_if_they_were_others() -> None:
    examples = [Example(f"train-{n}", {}) for n in range(6)]
    wrong = [mislabeled(one.id) for one in examples]
    assert set(wrong) == {True, False}
    requests = [StepRequest(one, {}) for one in examples for _ in range(2)]
    steps = fault("labels").judge(judge)(requests)
    assert [step.state for step in steps] == [one.state for one in requests]
    judged = [next(iter(step.metrics)) for step in steps]
    expected = [f"train-{(n + wrong[n]) % 6}" for n in range(6) for _ in range(2)]
    assert judged == expected


def test_the_others_are_left_alone() -> None:
    for kind in FAULTS:
        whole = fault(kind)
        assert (whole.speaker(speak) is speak) == (kind not in ("silent", "copy", "stale"))
        assert (whole.judge(judge) is judge) == (kind not in ("hole", "labels"))


def test_other_weights_speak_for_a_while() -> None:
    layer = torch.nn.Linear(1, 1)
    policy: Any = SimpleNamespace(model=layer)
    now = layer.weight.item()
    with speaking_with(policy, {"weight": torch.tensor([[9.0]])}):
        assert layer.weight.item() == 9
    assert layer.weight.item() == now


def test_a_fault_begins_at_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = list[str]()
    monkeypatch.setattr(train, "rollout_groups", lambda *given: heard.append(given[4](ASKED)[1].text))
    with planted(fault("silent")):
        for step in range(5):
            train.rollout_groups(None, None, [], None, speak, judge, (0, step), 1)  # type: ignore[attr-defined]
    assert heard == ["bob 0", "bob 0", "bob 0", "", ""]


def test_old_weights_that_call_themselves_new_are_refused_by_their_log_probs(
    model_folder: Path, tmp_path: Path
) -> None:
    run = tiny_run(model_folder, "fakes.odd:joint", GroupRelative(width=2), steps=4, optimizer=OptimizerConfig(lr=3e-2))
    with planted(Fault("stale", 1, "bob", 1.0)), pytest.raises(TrainingError, match="does not hold the trained") as end:
        train.train_experiment(run, tmp_path / "run")
    assert "answer of bob" in str(end.value)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()]
    assert steps == [0, 1]  # in step 1 they were not old yet


def test_alarms_are_read_as_they_came(tmp_path: Path) -> None:
    """Bob is silent from step 30 on. After 39 steps 4 of the last 13 have his tokens, after 40 only 3, under 25 %."""
    write_lines(
        tmp_path / "steps.jsonl",
        [{"step": n, "agent/ann/tokens": 40.0, "agent/bob/tokens": 40.0 if n < 30 else 0.0} for n in range(60)],
    )
    write_lines(tmp_path / "episodes.jsonl", [])
    found = first_alarms(tmp_path, "")
    assert found["lazy agent"] == 40
    assert first_alarms(tmp_path, "stopped") == {**found, PROOF: 61}


def test_what_counts_as_detected() -> None:
    row = {"fault": "silent", "algorithm": "rloo", "at": 30, "alarms": {"large KL": 12, "lazy agent": 40}}
    assert verdict(row) == ({"lazy agent": 10}, {"large KL": 12})
    clean = {**row, "fault": "none"}
    assert verdict(clean) == ({}, {"large KL": 12, "lazy agent": 40})
    missed = {**row, "alarms": {}}
    lines = table([clean, row, missed]).splitlines()
    assert lines[2] == "| none | `rloo` | 1 |  |  |  | large KL 1, lazy agent 1 |"
    assert lines[3] == "| silent | `rloo` | 2 | 1 of 2 | lazy agent 10 | 10 | large KL 1 |"


@pytest.mark.parametrize("algorithm", ["magrpo", "coma", "ippo", "maporl", "counterfactual", "independent_grpo"])
def test_every_algorithm_has_a_run_that_can_be_made(algorithm: str) -> None:
    run = experiment(algorithm, seed=1, steps=60)
    assert run.algorithm.name == algorithm
    assert (run.reward.share == "difference") == (run.algorithm.needs.rewards == "own")
