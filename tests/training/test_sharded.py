"""Learners sharded over ranks: the numbers of one process, whatever the number of ranks; checkpoints for any of it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import runs, tiny
from fakes.ranks import alone, group
from fakes.tiny import answers, samples_of
from madrigal.algorithms import CriticNeed
from madrigal.algorithms.actor_critic import MAPPO
from madrigal.algorithms.group import MAGRPO
from madrigal.config import Experiment, to_json
from madrigal.learning.critic_learner import CriticLearner, Lesson
from madrigal.learning.learner import Learner
from madrigal.learning.ranks import Ranks
from madrigal.learning.sharded import ShardedCritic, ShardedLearner
from madrigal.learning.shards import even_places
from madrigal.policies.critic import Critic, load_critic
from madrigal.policies.local import LocalPolicy
from madrigal.runs.checkpoint import load_checkpoint, save_checkpoint
from madrigal.runs.folders import held
from madrigal.runs.log import read_lines
from madrigal.runs.provenance import read_about
from madrigal.settings import Lora, OptimizerConfig, PolicyConfig, Sampling
from madrigal.training.checks import open_checked_task
from madrigal.training.train import training_loop
from madrigal.types import ConfigError, Sample, TrainingError, ValueRow

SAMPLING = Sampling(max_new_tokens=8)
EXACT, RATE = 1e-5, 1e-2
CLIPPED = OptimizerConfig(lr=1e-3, clip_norm=0.5)  # the gradients are longer
KL = replace(MAGRPO, kl=0.1)


@dataclass(frozen=True)
class Case:
    """What is learned: five answers, or as many as are said."""

    lora: int = 0
    dtype: str = "float32"
    kl: bool = False
    rows: int = 5
    settings: OptimizerConfig = CLIPPED


CASES = {
    "full": Case(kl=True),
    "adapter": Case(lora=4, kl=True),
    "many micro-batches": Case(settings=replace(CLIPPED, token_budget=1)),
    "recomputed": Case(settings=replace(CLIPPED, gradient_checkpointing=True)),
    "one row": Case(rows=1),
    "bfloat16": Case(dtype="bfloat16"),
}


@dataclass(frozen=True)
class Learned:
    """What three steps came to."""

    reports: list[dict[str, float]]
    weights: dict[str, Tensor]
    state: dict[str, Any]
    reference: list[tuple[float, ...]]


def policies_of(model: Path) -> dict[str, tuple[LocalPolicy, list[Sample]]]:
    """Before anything is learned; the samples are the same in every process."""
    made = {}
    for name, case in CASES.items():
        policy = tiny.load(model, lora=Lora(rank=case.lora), dtype=case.dtype)
        made[name] = policy, samples_of(answers(policy, SAMPLING))[: case.rows]
    return made


def learn(learner: Any, case: Case, samples: list[Sample], folder: Path) -> Learned:
    loss = (KL if case.kl else MAGRPO).loss
    reports = [learner.update([samples], loss, [4.0], sampled=not n) for n in range(3)]
    reference = learner.reference_logprobs([sample.turn for sample in samples]) if case.kl else []
    weights = {name: value.detach().clone() for name, value in learner.policy.parameters().items()}
    state = load_checkpoint(save_checkpoint(folder, 3, {"ann": learner.state()}, {}))[0]["ann"]
    learner.optimizer.forget()
    learner.update([samples], loss, sampled=False)
    learner.restore(state)  # what was forgotten and learned since is gone
    for name, value in learner.policy.parameters().items():
        assert torch.equal(value, weights[name])
    return Learned(reports, weights, state, reference)


def sharded(model: Path, policy: LocalPolicy, case: Case, ranks: Ranks) -> ShardedLearner:
    config = PolicyConfig(model=str(model), lora=Lora(rank=case.lora))
    return ShardedLearner(policy, config, case.settings, SAMPLING, ranks, reference="loss" if case.kl else "")


def train(run: Experiment, folder: Path, ranks: Ranks, *, resume: bool = False) -> Path:
    with open_checked_task(run) as task, held(folder, resume=resume, beside=True) as place:
        assert training_loop(task, run, place, ranks=ranks) == 0
    return folder


CRITICS = {
    "critic": Case(),
    "critic, adapter": Case(lora=4),
    "critic, recomputed": Case(settings=replace(CLIPPED, gradient_checkpointing=True, token_budget=1)),
    "critic, bfloat16": Case(dtype="bfloat16"),
}
NEED = CriticNeed("own", "token", clip=0.2)


def lessons_of(policy: LocalPolicy) -> list[Lesson]:
    """Answers to learn the values of, with returns that differ from token to token."""
    completions = [sample.turn.completion for sample in samples_of(answers(policy, SAMPLING))[:5]]
    rows = [ValueRow("critic", n, said.prompt_ids, said.token_ids) for n, said in enumerate(completions)]
    return [
        Lesson(row, (0.0,) * len(row.token_ids), tuple(n + 0.1 * t for t in range(len(row.token_ids))))
        for n, row in enumerate(rows)
    ]


def critic_of(model: Path, case: Case) -> tuple[Critic, PolicyConfig]:
    config = PolicyConfig(model=str(model), lora=Lora(rank=case.lora), dtype=case.dtype)
    return load_critic("critic", config, torch.device("cpu")), config


def learn_values(learner: Any, lessons: list[Lesson], folder: Path) -> Learned:
    """Three steps, then values, which have read the newest weights; a state is written and taken up."""
    reports = [learner.update([lessons]) for _ in range(3)]
    rows = [lesson.row for lesson in lessons]
    values = learner.read(rows)
    state = load_checkpoint(save_checkpoint(folder, 3, {"critic": learner.state()}, {}))[0]["critic"]
    learner.optimizer.forget()
    learner.update([lessons])
    assert learner.read(rows) != values
    learner.restore(state)
    assert learner.read(rows) == values
    return Learned(reports, {}, state, values)


Found = Mapping[tuple[str, int], Learned]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all test processes, which share out these tests and what is made for them."""
    place = tmp_path_factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "sharded"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="module")
def run(sums: Experiment) -> Experiment:
    return replace(sums, steps=4, optimizer=OptimizerConfig(lr=RATE), evaluation=replace(sums.evaluation, examples=1))


@pytest.fixture(scope="module")
def one(run: Experiment, folder: Path) -> Path:
    """A run of one process."""
    with alone_in(folder):
        return folder / "one" if (folder / "one/team").is_dir() else runs.trained(run, folder / "one")


def with_critics(run: Experiment) -> Experiment:
    """The rate is lower: what a critic's values differ by in the last bits, advantages carry into the policies."""
    return replace(run, algorithm=MAPPO, optimizer=OptimizerConfig(lr=RATE / 10))


def on_ranks(folder: Path, count: int, model: Path, run: Experiment, one: Path) -> dict[str, Learned]:
    """All cases on some ranks; whole runs on 2 ranks, in the same folder."""
    learned = {}
    with group(folder, count) as ranks:
        for name, (policy, samples) in policies_of(model).items():
            case = CASES[name]
            learner = sharded(model, policy, case, ranks)
            learned[name] = learn(learner, case, samples, folder / f"{name}-{count}")
        lessons = lessons_of(tiny.load(model))
        for name, case in CRITICS.items():
            critic, config = critic_of(model, case)
            judge = ShardedCritic(critic, config, case.settings, NEED, ranks)
            learned[name] = learn_values(judge, lessons, folder / f"{name}-{count}")
        if count == 2:
            refused(learner, samples)
            train(run, folder / "two", ranks)
            train(with_critics(run), folder / "two-with-critics", ranks)
            shutil.copytree(one, folder / "from-one")
            train(replace(run, steps=5), folder / "from-one", ranks, resume=True)
    return learned


@pytest.fixture(scope="module")
def found(model_folder: Path, folder: Path, run: Experiment, one: Path) -> Found:
    """All cases on 1 and 2 ranks, and by a `Learner` (0 ranks); made by the first test process that wants them."""
    with alone_in(folder):
        if not (folder / "found.pt").exists():
            torch.save(_found(model_folder, folder, run, one), folder / "found.pt")
    return torch.load(folder / "found.pt", weights_only=False)  # type: ignore[no-any-return]


def _found(model: Path, folder: Path, run: Experiment, one: Path) -> Found:
    learned: dict[tuple[str, int], Learned] = {}
    for count in (1, 2):
        learned |= {(name, count): row for name, row in alone(on_ranks, folder, count, model, run, one).items()}
    for name, (policy, samples) in policies_of(model).items():
        case = CASES[name]
        learner_ = Learner(policy, case.settings, SAMPLING, reference="loss" if case.kl else "")
        learned[name, 0] = learn(learner_, case, samples, folder / f"{name}-0")
    for name, case in CRITICS.items():
        judge = CriticLearner(critic_of(model, case)[0], case.settings, NEED)
        learned[name, 0] = learn_values(judge, lessons_of(tiny.load(model)), folder / f"{name}-0")
    return learned


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One test process at a time."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def refused(learner: ShardedLearner, samples: list[Sample]) -> None:
    """Errors of all ranks are one, and they go on after it."""
    before = {name: value.detach().clone() for name, value in learner.policy.parameters().items()}
    spoiled = [replace(sample, advantage=float("nan")) for sample in samples]
    with pytest.raises(TrainingError, match=r"policy ann: the loss is nan .*\(0 of 1 optimizer steps were made\)"):
        learner.update([spoiled], MAGRPO.loss, sampled=False)
    count, version = len(samples[0].turn.completion.token_ids), learner.policy.version
    said = replace(samples[0].turn.completion, logprobs=(-9.0,) * count, version=version)
    stale = [replace(samples[0], turn=replace(samples[0].turn, completion=said))]
    with pytest.raises(TrainingError, match="the sampler does not hold the trained weights"):
        learner.update([stale], MAGRPO.loss)
    with pytest.raises(ConfigError, match="the checkpoint holds other parameters"):
        learner.restore({**learner.state(), "parameters": {"w": torch.ones(1)}})
    learner._hand_over()
    for name, value in learner.policy.parameters().items():
        assert torch.equal(value, before[name])


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].detach().double() - other[name].detach().double()).abs().max()) for name in one)


@pytest.mark.parametrize("name", [*CASES, *CRITICS])
@pytest.mark.parametrize("other", [0, 1])
def test_two_ranks_learn_what_one_rank_and_one_process_learn(found: Found, name: str, other: int) -> None:
    """Loss, gradient norm, every measure, weights and moments after 3 steps; in bfloat16 to its rounding."""
    ours, theirs, case = found[name, 2], found[name, other], {**CASES, **CRITICS}[name]
    exact = EXACT if case.dtype == "float32" else 0.03
    for report, expected in zip(ours.reports, theirs.reports, strict=True):
        assert report.keys() == expected.keys()
        assert report == {key: pytest.approx(value, rel=exact, abs=exact) for key, value in expected.items()}
    assert ours.weights.keys() == theirs.weights.keys()
    assert not ours.weights or apart(ours.weights, theirs.weights) < exact
    assert ours.reference == [pytest.approx(row, abs=exact) for row in theirs.reference]
    assert apart(ours.state["parameters"], theirs.state["parameters"]) < exact
    assert ours.state.get("version") == theirs.state.get("version") == (None if name in CRITICS else 3)
    assert ours.state["optimizer"]["param_groups"] == theirs.state["optimizer"]["param_groups"]
    assert ours.state["optimizer"]["state"].keys() == theirs.state["optimizer"]["state"].keys()
    for number, moments in theirs.state["optimizer"]["state"].items():
        assert apart(ours.state["optimizer"]["state"][number], moments) < exact


def steps(folder: Path) -> list[dict[str, Any]]:
    """steps.jsonl without anything that a clock says."""
    return [
        {key: value for key, value in row.items() if "second" not in key.rpartition("/")[2]}
        for row in runs.numbers(folder)
    ]


def close(ours: Path, theirs: Path) -> None:
    """The same steps to 1e-5; weights to a hundredth of the rate.

    AdamW's first steps are as long as the rate, whatever the gradient: where that is near 0 its rounding decides.
    """
    mine, others = steps(ours), steps(theirs)
    assert len(mine) == len(others)
    for record, expected in zip(mine, others, strict=True):
        assert record == {
            key: pytest.approx(value, rel=EXACT, abs=EXACT) if isinstance(value, float) else value
            for key, value in expected.items()
        }
    assert apart(runs.weights(ours), runs.weights(theirs)) < RATE / 100


def test_a_run_on_two_ranks_has_the_steps_of_one_process(found: Found, folder: Path, one: Path) -> None:
    close(folder / "two", one)
    assert read_about(folder / "two")["sessions"][0]["machine"]["ranks"] == 2
    assert {path.name for path in (folder / "two/checkpoints/step-4/first").iterdir()} >= {
        ".metadata",
        "__0_0.distcp",
        "__1_0.distcp",
    }


def test_critics_of_a_run_are_sharded_too(found: Found, folder: Path, run: Experiment) -> None:
    close(folder / "two-with-critics", runs.trained(with_critics(run), folder / "one-with-critics"))
    shares = (folder / "two-with-critics/checkpoints/step-4/critic-joint").iterdir()
    assert {path.name for path in shares} >= {".metadata", "__0_0.distcp", "__1_0.distcp"}


def test_a_run_goes_on_with_ranks_or_without(found: Found, folder: Path, run: Experiment) -> None:
    """What two ranks saved one process takes up, and the other way round."""
    shutil.copytree(folder / "two", folder / "from-two")
    with open_checked_task(run) as task, held(folder / "from-two", resume=True, beside=True) as place:
        assert training_loop(task, replace(run, steps=5), place) == 0
    assert len(steps(folder / "from-two")) == 5
    close(folder / "from-two", folder / "from-one")


def torchrun(folder: Path, name: str, *more: str) -> subprocess.Popen[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "madrigal", "train"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [*start, str(folder / "experiment.json"), "--runs", str(folder), "--name", name, "--quiet", *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_run_of_torchrun_goes_on_after_a_kill_as_if_there_was_none(
    found: Found, folder: Path, run: Experiment
) -> None:
    """Both ranks are killed after two steps; resumed, the run is bit-equal to one that nobody killed."""
    (folder / "experiment.json").write_text(to_json(run))
    first = torchrun(folder, "killed")
    written = folder / "killed" / "steps.jsonl"
    while not written.exists() or len(read_lines(written)) < 2:  # the first checkpoint is whole then
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.01)
    ranks = [pid for file in Path(f"/proc/{first.pid}/task").glob("*/children") for pid in file.read_text().split()]
    assert len(ranks) == 2
    for pid in (first.pid, *map(int, ranks)):
        os.kill(pid, signal.SIGKILL)
    first.communicate()
    second = torchrun(folder, "killed", "--resume")
    output = second.communicate(timeout=120)[0]
    assert second.returncode == 0, output
    assert steps(folder / "killed") == steps(folder / "two")
    runs.assert_equal(runs.weights(folder / "killed"), runs.weights(folder / "two"))


def test_micro_batches_are_shared_out_evenly() -> None:
    """Every row once; as many pieces for each rank, where there are rows enough."""
    rows = [tiny.sample((1, 2), (3,) * n) for n in range(1, 8)]
    for ranks in (1, 2, 3, 4):
        for budget in (1, 30, 4096):
            pieces = even_places(rows, budget, ranks)
            assert sorted(place for piece in pieces for place in piece) == list(range(7))
            assert len(pieces) % ranks == 0 or max(map(len, pieces)) == 1
