"""The warm start: what is kept, who learns it, that it goes on as if nothing had happened, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import letters
from fakes.play import chains
from fakes.runs import StopsBefore, assert_equal, numbers, tiny_run, weights
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment, from_json, to_json
from madrigal.learning.learner import Learner
from madrigal.learning.learners import Learners
from madrigal.maths.batch import make_batch
from madrigal.policies.team import Team
from madrigal.rollouts.play import judge_in_turn
from madrigal.rollouts.task import SingleRound, Task
from madrigal.runs.log import read_lines
from madrigal.settings import EvaluationConfig, Lora, OptimizerConfig, PolicyConfig, Sampling, TeamConfig, WarmConfig
from madrigal.tasks.messages.relay import Relay, RelayTask
from madrigal.tasks.own import CustomTask
from madrigal.training import warm as module
from madrigal.training.checks import open_checked_task
from madrigal.training.demonstrations import episodes_of, read_demonstrations
from madrigal.training.held_out import NullCallback, evaluate_run, held_out
from madrigal.training.learner_factory import make_learning
from madrigal.training.plan import make_plan
from madrigal.training.teams import make_team
from madrigal.training.train import WARM_REFERENCE, train_experiment, trained_examples
from madrigal.training.warm import best_of, warm_start
from madrigal.types import Completion, ConfigError, Example, MadrigalError, Message, Sample, Turn

AGENTS = ("ann", "bob")
WARM = WarmConfig(examples=3, samples=6, epochs=4, batch=2, lr=1e-2)
CLOCKS = ("seconds",)


def reward(example: Example, said: Mapping[str, str]) -> float:
    """The share of a's in what both say."""
    text = said["ann"] + said["bob"]
    return text.count("a") / max(1, len(text))


def examples(split: str, count: int) -> tuple[Example, ...]:
    return tuple(Example(f"{split}-{n}", {"word": "xyz"[n % 3]}) for n in range(count))


def prompt(example: Example, agent: str) -> str:
    return f"{agent} {example.data['word']}"


TASK = SingleRound("letters", AGENTS, examples("train", 4), examples("test", 2), prompt, reward)


def warm_run(task: Any = None, **changes: Any) -> Experiment:
    settings: dict[str, Any] = {"warm": WARM, "optimizer": OptimizerConfig(lr=1e-3), "steps": 2} | changes
    return tiny_run(letters.model_folder(), task or CustomTask("in-memory:letters"), GroupRelative(width=2), **settings)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_lines(folder / "warm.jsonl")]


def learners(run: Experiment, agents: tuple[str, ...] = AGENTS) -> tuple[Team, Learners]:
    team = make_team(run.team, agents, run.seed)
    return team, make_learning(run, team)


def warmed(run: Experiment, task: Task[Any] = TASK) -> tuple[Team, Learners, list[dict[str, Any]]]:
    """A team after its warm start, without a run."""
    team, learning = learners(run, tuple(task.agents))
    given = read_demonstrations(run, task) or task.examples("train")[: run.warm.examples]
    judge = lambda asked: [task.step(one.state, one.actions) for one in asked]  # noqa: E731
    made = list(warm_start(run, task, learning, given, team.speaker(run.sampling), judge, lambda: 0))
    return team, learning, made


def nats(learning: Learners, name: str, agent: str, word: str, text: str) -> float:
    """Log-prob per token of an answer, its end token too."""
    learner = learning.policies[name]
    policy = learner.policy
    ids = policy.encode_answer(text)
    said = Completion(text, policy.encode((Message("user", f"{agent} {word}"),)), ids, (0.0,) * len(ids))
    batch = make_batch([Sample(Turn(agent, (), said), 0.0, 0.0)], policy.tokenizer.pad_token_id, policy.device)
    with torch.no_grad():
        return float(learner.score(batch).logprobs.sum() / len(ids))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two demonstrations, other words for each agent."""
    return given(tmp_path, *({"id": f"train-{n}", "answers": {"ann": "aa", "bob": "bbb"}} for n in range(2)))


def given(folder: Path, *lines: Any) -> Path:
    path = folder / "given.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


# What is kept


def test_no_reference_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KL term is of the loss of RL alone."""
    read = list[int]()
    real = Learner._reference
    monkeypatch.setattr(Learner, "_reference", lambda self, batch: (read.append(1), real(self, batch))[1])
    _, learning, made = warmed(replace(warm_run(), algorithm=GroupRelative(width=2, kl=0.1)))
    assert {one.reference for one in learning.policies.values()} == {"loss"} and len(made) > 1
    assert not read


@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_a_kl_term_beside_a_warm_start_is_told_of(tmp_path: Path, kl: float) -> None:
    """It pulls back to what the warm start has left: by 10 nats a token, of a task that the model has never met."""
    told = list[str]()

    class Told(NullCallback):
        def stage(self, name: str) -> None:
            told.append(name)

    run = replace(warm_run(steps=1), algorithm=GroupRelative(width=2, kl=kl))
    assert train_experiment(run, tmp_path / "run", watch=Told(), task=TASK)
    assert [line for line in told if "KL term" in line] == [WARM_REFERENCE] * bool(kl)


def test_the_best_of_a_group_is_kept_where_it_is_above_the_mean() -> None:
    assert (best := best_of(chains([1.0], [3.0], [3.0]))) is not None and best.choice == (1, 1)
    assert (best := best_of(chains([1.0, 5.0], [3.0, 2.0]))) is not None and best.choice == (
        0,
        0,
    )  # returns, not rounds
    assert best_of(chains([2.0], [2.0])) is None and best_of(chains([0.0])) is None


def test_kept_answers_become_more_likely_and_the_return_rises(tmp_path: Path) -> None:
    """Cross entropy falls by more than a third, and the held-out return rises before the first step of RL."""
    run = warm_run(warm=replace(WARM, epochs=12, samples=12), evaluation=EvaluationConfig(samples=40, timed_examples=0))
    assert train_experiment(run, tmp_path / "run", task=TASK)
    chosen, *epochs = rows(tmp_path / "run")
    assert (chosen["examples"], chosen["samples"]) == (3, 12) and 1 <= chosen["kept"] <= 3
    assert chosen["kept_return"] > 2 * chosen["return"] > 0 and chosen["tokens"] > 3 * 12 * 2
    assert [row["epoch"] for row in epochs] == list(range(12)) and epochs[0]["optimizer_steps"] == 2
    for name in AGENTS:
        losses = [row[f"update/{name}/loss"] for row in epochs]
        assert losses[-1] < 2 / 3 * losses[0]
    evaluations = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert list(evaluations) == ["before", "warm", "after"]
    assert evaluations["warm"]["return_percent"] > 2 * evaluations["before"]["return_percent"]
    transcripts = [line.get("evaluation", "") for line in read_lines(tmp_path / "run" / "episodes.jsonl")]
    assert list(dict.fromkeys(transcripts)) == ["before", "warm", "", "after"]


def test_fitted_to_its_own_samples_a_policy_has_no_gradient_in_expectation() -> None:
    """sum_x p(x) grad log p(x) = 0 of the sampled distribution, temperature and cut included; at temperature 1 not."""
    from madrigal.maths.sampling import filtered_logits

    logits = torch.tensor([[1.0, 0.2, -0.5, -2.0]], requires_grad=True)
    sampling = Sampling(temperature=0.5, top_k=3)
    for scored, expected in ((sampling, True), (Sampling(), False)):
        chance = filtered_logits(logits, sampling).softmax(-1).detach()
        logprobs = filtered_logits(logits, scored).log_softmax(-1)
        (gradient,) = torch.autograd.grad(torch.where(chance > 0, chance * logprobs, 0.0).sum(), logits)
        assert (float(gradient.abs().max()) < 1e-6) == expected


def test_only_training_examples_are_played_in_passes_where_more_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[str] = []
    real = module.rollout_groups

    def watched(task: Any, topology: Any, origins: Any, *more: Any) -> Any:
        met.extend(point.example for point in origins)
        return real(task, topology, origins, *more)

    monkeypatch.setattr(module, "rollout_groups", watched)
    keep = EvaluationConfig(examples=1, timed_examples=0, keep="best")
    run = warm_run(warm=replace(WARM, examples=6, epochs=1), evaluation=keep, steps=1)
    assert train_experiment(run, tmp_path / "run", task=TASK)
    assert sorted(met) == ["train-0", "train-0", "train-1", "train-1", "train-2", "train-2"]  # train-3 is validation
    assert list(json.loads((tmp_path / "run" / "validation.json").read_text())) == ["step-0", "step-1"]


# Who learns


def test_demonstrations_reach_the_seat_that_they_are_for(file: Path) -> None:
    """Each agent's own answer gets above half; the other's does not."""
    run = warm_run(warm=replace(WARM, examples=0, demonstrations=str(file), epochs=40))
    _, untrained = learners(run)
    _, learning, made = warmed(run)
    assert made[0] == made[0] | {"examples": 2, "samples": 0, "kept": 2, "tokens": 0, "kept_return": pytest.approx(0.4)}
    for name, own, other in (("ann", "aa", "bbb"), ("bob", "bbb", "aa")):
        assert nats(learning, name, name, "x", own) > -0.2 > -2 > nats(untrained, name, name, "x", own)
        assert nats(learning, name, name, "x", other) < -1


def test_frozen_seats_are_left_alone_and_shared_policies_learn_from_all(file: Path) -> None:
    warm = replace(WARM, examples=0, demonstrations=str(file), epochs=1)
    tiny = PolicyConfig(model=str(letters.model_folder()))
    frozen = TeamConfig(policy=tiny, seats={"bob": replace(tiny, trainable=False)}, device="cpu")
    before = dict(learners(warm_run(team=frozen))[0].seats["bob"].model.state_dict())
    team, _, made = warmed(warm_run(team=frozen, warm=warm))
    assert_equal(before, dict(team.seats["bob"].model.state_dict()))
    assert {key.split("/")[1] for key in made[1] if key.startswith("update/")} == {"ann"}
    _, _, made = warmed(warm_run(team=TeamConfig(policy=tiny, shared=True, device="cpu"), warm=warm))
    assert made[1]["update/team/sequences"] == 4 and made[1]["update/team/tokens"] == 2 * (3 + 4)


def test_adapters_learn_and_moments_are_dropped(file: Path) -> None:
    team = TeamConfig(policy=PolicyConfig(model=str(letters.model_folder()), lora=Lora(rank=2)), device="cpu")
    run = warm_run(team=team, warm=replace(WARM, examples=0, demonstrations=str(file), epochs=6))
    _, learning, made = warmed(run)
    assert made[-1]["update/ann/loss"] < made[1]["update/ann/loss"] - 0.1
    assert all(not learner.optimizer.adamw.state for learner in learning.policies.values())
    assert made[-1]["update/ann/lr"] == pytest.approx(1e-2) and learning.policies["ann"].optimizer.peak == 1e-3


def test_control_characters_in_a_demonstration_are_text(tmp_path: Path) -> None:
    """An end token that is spelled is no end token; escapes and line breaks stay what they are."""
    policy = learners(warm_run())[0].seats["ann"]
    end = policy.tokenizer.eos_token
    text = f"a\nb{end}c"
    ids = policy.encode_answer(text)
    assert [n for n, token in enumerate(ids) if token in policy.ends] == [len(ids) - 1]
    assert policy.tokenizer.convert_ids_to_tokens(list(ids))[:3] == ["a", "\n", "b"]
    path = given(tmp_path, {"id": "train-0", "answers": {"ann": text, "bob": "\x1b[31m"}})
    run = warm_run(warm=WarmConfig(demonstrations=str(path)), sampling=Sampling(max_new_tokens=99))
    (episode,) = shown(run, TASK)
    assert [turn.completion.text for turn in episode.turns] == [text, "\x1b[31m"]


def shown(run: Experiment, task: Task[Any]) -> list[Any]:
    team = make_team(run.team, tuple(task.agents), run.seed)
    judge = lambda asked: [task.step(one.state, one.actions) for one in asked]  # noqa: E731
    return episodes_of(read_demonstrations(run, task), run, task, team, judge)


def test_later_rounds_are_shown_what_was_given_in_earlier_ones(tmp_path: Path) -> None:
    lines = [{"id": "train 0", "answers": {"ann": ["aa", "b"], "bob": ["cc", "d"]}}, {"id": "train 1", "answers": {}}]
    lines[1]["answers"] = {"ann": "e", "bob": "f"}
    run = warm_run(CustomTask("fakes.letters:joint_3"), warm=WarmConfig(demonstrations=str(given(tmp_path, *lines))))
    two, one = shown(run, letters.joint_3)
    assert [(turn.agent, turn.round, turn.completion.text) for turn in two.turns] == [
        ("ann", 0, "aa"),
        ("bob", 0, "cc"),
        ("ann", 1, "b"),
        ("bob", 1, "d"),
    ]
    assert two.turns[3].prompt[0].content == "bob train 0 1 aa cc "
    assert two.turns[3].completion.prompt_ids == make_team(run.team, AGENTS, 0).seats["bob"].encode(two.turns[3].prompt)
    assert [turn.completion.text for turn in one.turns] == ["e", "f"] and len(one.steps) == 1


def test_the_plan_knows_that_a_warm_start_plays_all_its_examples_at_once() -> None:
    plain, run = warm_run(warm=WarmConfig()), warm_run(warm=replace(WARM, examples=500))
    sampled = {}
    for name, one in (("plain", plain), ("warm", run)):
        with open_checked_task(one, TASK) as task:
            plan = make_plan(one, task, trained_examples(one, task), held_out(one, task))
        sampled[name] = [(body.sampled.prompts, body.sampled.answers) for body in plan.bodies]
        assert [body.learned.answers for body in plan.bodies] == [2, 2]
    assert sampled == {"plain": [(2, 2)] * 2, "warm": [(500, 6)] * 2}


# Going on


class Rings(NullCallback):
    """A watcher that asks to stop at a stage."""

    def __init__(self, at: str) -> None:
        self.at, self.rung = at, 0

    def stage(self, name: str) -> None:
        self.rung = self.rung or 15 * (self.at in name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train_experiment(warm_run(), folder, task=TASK)
    return folder


def assert_same(torn: Path, whole: Path) -> None:
    assert_equal(weights(torn), weights(whole))
    assert (numbers(torn), rows(torn)) == (numbers(whole), rows(whole))
    assert (torn / "evaluation.json").read_text() == (whole / "evaluation.json").read_text()
    lines = [
        [(r.get("evaluation"), r["example"], r["reward"]) for r in read_lines(f / "episodes.jsonl")]
        for f in (torn, whole)
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("at", ["warm start", "epoch 2", "epoch 4", "evaluating warm"])
def test_a_run_stopped_in_its_warm_start_goes_on_as_if_it_had_not_been(whole: Path, tmp_path: Path, at: str) -> None:
    """Half a warm start is not saved; a whole one is, and is not made again."""
    rings, torn = Rings(at), tmp_path / "torn"
    assert not train_experiment(warm_run(), torn, task=TASK, watch=rings, stop=lambda: rings.rung)
    saved = (torn / "checkpoints" / "step-0").is_dir()
    assert saved == (torn / "team").is_dir() == (at in ("epoch 4", "evaluating warm"))
    assert train_experiment(warm_run(), torn, task=TASK, resume=True)
    assert_same(torn, whole)


@pytest.mark.parametrize("cut", [0, 1])
def test_a_run_broken_off_after_its_warm_start_goes_on_from_it(whole: Path, tmp_path: Path, cut: int) -> None:
    torn = tmp_path / "torn"
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train_experiment(warm_run(), torn, task=TASK, watch=StopsBefore(cut))
    assert (torn / "checkpoints" / f"step-{cut}").is_dir()
    assert train_experiment(warm_run(), torn, task=TASK, resume=True)
    assert_same(torn, whole)


def test_another_warm_start_is_refused_on_resume(whole: Path) -> None:
    with pytest.raises(ConfigError, match=r"other settings: warm.epochs was 4, not 5"):
        train_experiment(warm_run(warm=replace(WARM, epochs=5)), whole, task=TASK, resume=True)


def test_without_steps_the_team_is_that_of_the_warm_start(whole: Path, tmp_path: Path) -> None:
    """It is evaluated before and after, saved, and may be trained on."""
    folder = tmp_path / "run"
    assert train_experiment(warm_run(steps=0), folder, task=TASK)
    evaluations = json.loads((folder / "evaluation.json").read_text())
    assert list(evaluations) == ["before", "after"] and not (folder / "steps.jsonl").exists()
    measured = json.loads((whole / "evaluation.json").read_text())
    assert evaluations["after"]["return_percent"] == measured["warm"]["return_percent"]
    assert rows(folder) == rows(whole)
    again, _ = evaluate_run(folder, task=TASK)
    assert again.return_percent == evaluations["after"]["return_percent"]
    assert train_experiment(warm_run(), folder, task=TASK, resume=True)
    assert_equal(weights(folder), weights(whole))
    assert numbers(folder) == numbers(whole)


def test_without_a_warm_start_there_is_no_trace_of_one(tmp_path: Path) -> None:
    assert train_experiment(warm_run(warm=WarmConfig(), steps=1), tmp_path / "run", task=TASK)
    assert not (tmp_path / "run" / "warm.jsonl").exists()
    assert list(json.loads((tmp_path / "run" / "evaluation.json").read_text())) == ["before", "after"]
    run = warm_run(warm=WarmConfig())
    older = json.loads(to_json(run))
    del older["warm"]
    assert from_json(json.dumps(older)) == run and not run.warm.wanted


def test_where_no_answer_is_better_than_another_nothing_is_learned(tmp_path: Path) -> None:
    task = SingleRound("flat", AGENTS, TASK.examples("train"), TASK.examples("test"), prompt, lambda *_: 1.0)
    _, untrained = learners(warm_run())
    team, _, made = warmed(warm_run(), task)
    assert len(made) == 1 and made[0]["kept"] == 0
    for agent in AGENTS:
        before = untrained.policies[agent].policy.model.state_dict()
        assert_equal(dict(before), dict(team.seats[agent].model.state_dict()))


def test_an_agent_may_be_shown_to_be_silent_in_a_round(tmp_path: Path) -> None:
    """What is learned of it is the end token alone."""
    task = RelayTask(Relay())
    said = {"seeker": ["hat", "-", "red"], "holder": ["-", "", "-"]}
    file = given(tmp_path, {"id": task.examples("train")[0].id, "answers": said})
    run = warm_run(Relay(), warm=WarmConfig(demonstrations=str(file)))
    team, _ = learners(run, task.agents)
    (episode,) = episodes_of(read_demonstrations(run, task), run, task, team, judge_in_turn(task))
    assert [len(turn.completion.token_ids) for turn in episode.turns] == [4, 1, 4]
    assert "The holder says: nothing" in episode.turns[2].prompt[-1].content


# Bad input

BOTH = {"ann": "a", "bob": "b"}
ROWS: list[tuple[Any, str]] = [
    ({"id": "train-0", "answers": BOTH | {"eve": "x"}}, r"row 1: 'eve' is no agent that answers there; .* ann, bob"),
    ({"id": "train-0", "answers": {"ann": "a"}}, "row 1: 'bob' is an agent without an answer"),
    ({"id": "train-9", "answers": BOTH}, "row 1: 'train-9' is no training example of letters; ids are like 'train-"),
    ({"id": "test-0", "answers": BOTH}, "row 1: 'test-0' is no training example .* no test or validation example"),
    ({"id": "train-0", "answers": BOTH | {"ann": "  "}}, "row 1: answers.ann: expected a text, .* got '  '"),
    ({"id": "train-0", "answers": BOTH | {"ann": ""}}, "row 1: answers.ann: expected a text, .* got ''"),
    ({"id": "train-0", "answers": BOTH | {"ann": ["", ""]}}, "row 1: answers.ann: expected a text, .* got \\['', ''"),
    ({"id": "train-0", "answers": BOTH | {"ann": 7}}, "row 1: answers.ann: expected a text, .* got 7"),
    ({"id": "train-0", "answers": {"ann": [], "bob": []}}, r"row 1: answers.ann: expected a text, .* got \[\]"),
    (
        {"id": "train-0", "answers": BOTH | {"ann": ["a", "b"]}},
        "as many rounds of each agent, at most 1, got ann 2, bob",
    ),
    ({"id": "train-0", "answers": {"ann": ["a"] * 2, "bob": ["b"] * 2}}, "at most 1, got ann 2, bob 2"),
    ({"id": "train-0", "answers": BOTH | {"ann": "\ud800"}}, "row 1: answers.ann holds half a character"),
    (
        {"id": "train-0", "answers": BOTH | {"ann": "abcdef"}},
        "the answer of ann has 7 tokens, sampling.max_new_tokens is 5",
    ),
    ({"id": "train-0", "answers": ["a"]}, r'row 1: expected \{"id": text, "answers"'),
    ({"id": 0, "answers": BOTH}, r'row 1: expected \{"id": text, "answers"'),
    ({"id": "train-0", "answers": BOTH, "reward": 1}, "got id, answers, reward"),
    ('{"id": ', "line 1: expected one JSON object, .* not JSON"),
    ("[1, 2]", "line 1: expected a JSON object"),
]


@pytest.mark.parametrize(("line", "told"), ROWS)
def test_bad_demonstrations_are_one_line_and_leave_no_run(tmp_path: Path, line: Any, told: str) -> None:
    run = warm_run(warm=WarmConfig(demonstrations=str(given(tmp_path, line))))
    with pytest.raises(MadrigalError, match=told) as raised:
        train_experiment(run, tmp_path / "run", task=TASK)
    assert "\n" not in str(raised.value) and not (tmp_path / "run").exists()


def test_too_few_demonstrations_no_file_and_zero_sums_are_refused(file: Path, tmp_path: Path) -> None:
    for warm, told in (
        (WarmConfig(examples=3, demonstrations=str(file)), r"expected 3, as warm.examples says, found 2"),
        (WarmConfig(demonstrations=str(tmp_path / "none.jsonl")), "expected a file, found none"),
        (WarmConfig(demonstrations=str(tmp_path / "given.doc")), "given.doc: expected a file .jsonl"),
    ):
        with pytest.raises(MadrigalError, match=told):
            train_experiment(warm_run(warm=warm), tmp_path / "run", task=TASK)
    file.write_text("")
    with pytest.raises(ConfigError, match="expected at least 1, found 0"):
        train_experiment(warm_run(warm=WarmConfig(demonstrations=str(file))), tmp_path / "run", task=TASK)
    with pytest.raises(ConfigError, match="the rewards of letters sum up to zero"):
        train_experiment(warm_run(CustomTask("fakes.letters:zero_sum_1")), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for changes in ({"examples": -1}, {"samples": 1}, {"epochs": 0}, {"batch": 0}, {"lr": 0.0}):
        with pytest.raises(ConfigError, match=f"warm.{next(iter(changes))}: expected"):
            WarmConfig(**changes)  # type: ignore[arg-type]


def test_where_policies_learn_in_turn_they_are_warmed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def one_by_one(fn: Any, policies: Any, *, in_turn: bool = False) -> list[Any]:
        asked.append(in_turn)
        return list(map(fn, policies))

    monkeypatch.setattr("madrigal.learning.learners.map_policies", one_by_one)
    _, learning = learners(warm_run())
    for in_turn in (False, True):
        assert set(replace(learning, in_turn=in_turn).imitate([], None)) == set(AGENTS)
    assert asked == [False, True]
