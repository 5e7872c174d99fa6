"""Products of features: every algorithm, with every kind of team, in every order of speech, in one round and in three.

The whole line from settings to moved weights: play, read, credit, update. What holds of all of them is checked at its
ends: what was said, what each loss was shown of it, and which weights have moved.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import cache
from itertools import combinations, product
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import letters
from madrigal.algorithms import Algorithm, reported
from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.config import Experiment
from madrigal.learning.learner import Learner
from madrigal.learning.partners import Partners
from madrigal.maths.batch import Batch
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.rollouts.rewards import with_counterfactuals
from madrigal.rollouts.topology import TOPOLOGIES
from madrigal.rollouts.tree import numbered, rollout_groups
from madrigal.settings import Lora, OptimizerConfig, PartnerConfig, PolicyConfig, Sampling, TeamConfig
from madrigal.tasks.own import CustomTask
from madrigal.training.checks import open_checked_task
from madrigal.training.learner_factory import make_learning
from madrigal.training.teams import make_team, open_rollout_workers
from madrigal.types import ConfigError, Group, Point, Sample, Turn, all_groups

MODEL = PolicyConfig(model=str(letters.model_folder()))
TEAMS = {
    "shared": TeamConfig(MODEL, shared=True),
    "own": TeamConfig(MODEL),
    "adapters": TeamConfig(replace(MODEL, lora=Lora(rank=2))),
    "rounds": TeamConfig(MODEL, rounds=2),
    "frozen": TeamConfig(MODEL, seats={"bob": replace(MODEL, trainable=False)}),
    "partners": TeamConfig(MODEL, partners=PartnerConfig(share=0.8)),
}
ROUNDS = (1, 3)  # of three, the first letter of an answer may end the game after any
# What would make a run long, or leave out on purpose some of what was said.
SETTINGS = {"width": 2, "fanout": (), "kl": 0.01, "minibatches": 2, "epochs": 2, "start": 2, "fits": 1}
SETTINGS |= {"alternate": 0, "skip_zero": False}

Case = tuple[str, str, str, int]  # algorithm, team, topology, rounds
NAME = "{0[0]}-{0[1]}-{0[2]}-{0[3]}".format
ORDERS = ("parallel", "sequential", "discussion")
CASES = [*product(ALGORITHMS, TEAMS, ORDERS, ROUNDS)]
# What cannot work, "" for any, and what is said of it; the first line that fits.
REFUSED = {
    ("marti", "", "", 1): "marti needs at least 2 rounds",
    ("pmic", "", "", 1): "pmic needs at least 2 rounds",
    ("counterfactual", "", "discussion", 3): "4096 episodes per example exceed the limit",
    ("", "rounds", "", 1): "team.rounds: expected at most",
    ("coma", "", "sequential", ""): "agents that speak at once",
    ("coma", "", "discussion", ""): "agents that speak at once",
}


def refusal(case: Case) -> str:
    return next((line for key, line in REFUSED.items() if all(map(lambda k, c: k in ("", c), key, case))), "")


def played() -> list[Case]:
    """A quarter of the cases that can work, or a little more: of every two features all that can meet do."""

    def turn(case: Case) -> int:
        return sum(among.index(one) for among, one in zip(features, case, strict=True)) % 2

    features: list[list[Any]] = [[*ALGORITHMS], [*TEAMS], [*ORDERS], [*ROUNDS]]
    chosen, met = list[Case](), set[Any]()
    for case in sorted((case for case in CASES if not refusal(case)), key=turn):
        if not met.issuperset(pairs := {*combinations(enumerate(case), 2)}):
            chosen.append(case)
            met |= pairs
    return chosen


def experiment(case: Case) -> Experiment:
    name, team, way, rounds = case
    algorithm: Any = ALGORITHMS[name][0]
    known = settings_of(algorithm)
    passes = {"epochs"} if known.get("clip") is None else set()  # which need a clip
    algorithm = replace(algorithm, **{key: SETTINGS[key] for key in SETTINGS.keys() & known.keys() - passes})
    needs = algorithm.needs
    kind = needs.rewards if needs.rewards != "any" else "own" if needs.reads_own else "joint"
    return Experiment(
        recipe="letters",
        task=CustomTask(f"fakes.letters:{kind.replace('-', '_')}_{rounds}"),
        topology=TOPOLOGIES[way][0],
        team=replace(TEAMS[team], device="cpu", chat_template=False),
        algorithm=algorithm,
        sampling=Sampling(max_new_tokens=3),
        optimizer=OptimizerConfig(lr=0.01, weight_decay=0.0),
        steps=2 if team == "partners" else 1,  # an older self differs from the second on
        prompts=2,
        threads=1,
    )


def settings_of(record: Any) -> dict[str, Any]:
    return {one.name: getattr(record, one.name) for one in fields(record)}


@cache
def loaded(name: str) -> tuple[Team, list[Tensor]]:
    """A team, and its weights before anything was learned: to load it takes longer than all else."""
    team = make_team(replace(TEAMS[name], device="cpu", chat_template=False), ("ann", "bob"), seed=0)
    return team, copies(everything(team))


def team_of(name: str) -> Team:
    """A team that has learned nothing yet."""
    team, first = loaded(name)
    with torch.no_grad():
        for parameter, value in zip(everything(team), first, strict=True):
            parameter.copy_(value)
    for policy in team.policies:
        policy.version = 0
    return team


def everything(team: Team) -> list[Tensor]:
    return [parameter for policy in team.policies for parameter in policy.model.parameters()]


def copies(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def equal(some: Iterable[Tensor], others: Iterable[Tensor]) -> bool:
    return all(map(torch.equal, some, others))


Answer = tuple[tuple[int, ...], tuple[float, ...]]  # its tokens and their log-probs
Weights = dict[Answer, float]


@dataclass
class Watched:
    """A learner, and what its loss was shown: for each stage its samples, and its answers with their weights."""

    learner: Learner
    stages: list[tuple[list[Sample], list[tuple[Answer, float]]]] = field(default_factory=list)

    @property
    def policy(self) -> LocalPolicy:
        return self.learner.policy

    def reference_logprobs(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        return self.learner.reference_logprobs(turns)

    def update(self, stages: Sequence[Sequence[Sample]], loss: Any, *args: Any) -> dict[str, float]:
        shown = list[list[tuple[Answer, float]]]()

        def watching(output: Any, batch: Batch) -> Tensor:
            assert bool(output.logprobs.isfinite().all() and batch.advantages.isfinite().all())
            rows = zip(batch.mask, batch.actions, batch.old_logprobs, batch.weights, strict=True)
            shown.append([((tuple(a[m].tolist()), tuple(o[m].tolist())), float(w)) for m, a, o, w in rows])
            value: Tensor = loss(output, batch)
            return value

        report = self.learner.update(stages, watching, *args)
        spoken = [[sample for sample in stage if sample.turn.completion.token_ids] for stage in stages]
        self.stages = list(zip(filter(None, spoken), shown, strict=True))
        return report


@dataclass(frozen=True)
class Done:
    """What one training step has done: to weights, too, each policy's own and all that nobody trains."""

    groups: list[Group[Any]]
    credited: list[Sample]
    reports: Mapping[str, Mapping[str, float]]
    watched: Mapping[str, Watched]
    moved: Mapping[str, bool]
    rest_moved: bool


def training(run: Experiment, team: Team) -> Iterator[Done]:
    """The steps of `training.train`, without a folder."""
    own = {policy.name: list(policy.parameters().values()) for policy in team.trainable}
    trained = {id(parameter) for mine in own.values() for parameter in mine}
    rest = [parameter for parameter in everything(team) if id(parameter) not in trained]
    with open_checked_task(run) as task, open_rollout_workers(run, task, team) as (speak, judge):
        algorithm: Algorithm[Any] = run.algorithm
        partners = Partners(run.team.partners, team.seats, run.sampling)
        judging = with_counterfactuals(judge) if algorithm.needs.counterfactual_rewards else judge
        learning, memory, groups = make_learning(run, team), algorithm.begin(), list[Group[Any]]()
        for step in range(run.steps):
            whole, before, others = copies(everything(team)), {name: copies(own[name]) for name in own}, copies(rest)
            partners.remember(step)
            origins = [Point(example.id, task.reset(example)) for example in task.examples("train")]
            tables = partners.matchups(origins, speak, (run.seed, step))
            played = [
                rollout_groups(task, run.topology, t.origins, algorithm.branching, t.speak, judging, t.key)
                for t in tables
            ]
            assert equal(whole, everything(team))  # also of policies that have worn older weights
            groups = numbered([group for table in played for group in table])
            watched = {name: Watched(learner) for name, learner in learning.policies.items()}
            looked_at: Any = replace(learning, policies=watched)  # type: ignore[arg-type]
            groups = looked_at.read(groups)
            stages, memory = algorithm.credit(groups, memory)
            reports = looked_at.update(groups, stages)
            json.dumps([memory, reported(algorithm, memory)], allow_nan=False)
            moved = {name: not equal(before[name], own[name]) for name in own}
            credited = [sample for stage in stages for sample in stage]
            yield Done(groups, credited, reports, watched, moved, not equal(others, rest))


def turns_in(group: Group[Any]) -> list[Turn]:
    """Of all episodes that are compared; the turn of a crossed answer once for each joint action."""
    return [turn for each in all_groups([group]) for episode in each.episodes for turn in episode.turns]


def answer(turn: Turn) -> Answer:
    return turn.completion.token_ids, turn.completion.logprobs


def chances(group: Group[Any], follow: str, chance: float = 1.0) -> Iterator[tuple[Turn, float]]:
    """How likely play is to come to each turn, all siblings being alike; where the best goes on, it stands for all."""
    share = chance / len(group.episodes)
    for episode in group.episodes:
        yield from ((turn, share) for turn in episode.turns)
        if episode.then is not None:
            yield from chances(episode.then, follow, chance if follow == "best" else share)


def by_the_loop(done: Done, stage: Sequence[Sample], follow: str, mine: Any) -> Weights:
    """The mean over the agents of a policy of the mean over the examples in which they show what they say."""
    pairs = [
        (group, agent)
        for group in done.groups
        for agent in {sample.turn.agent for sample in stage}
        if all(turn.completion.token_ids for turn in turns_in(group) if turn.agent == agent)
    ]
    found = defaultdict[Answer, float](float)
    for group, agent in pairs:
        for turn, chance in chances(group, follow):
            if turn.agent == agent and mine(turn):
                found[answer(turn)] += chance / len(pairs)
    return found


def check_numbers(done: Done) -> None:
    for s in done.credited:
        assert all(map(math.isfinite, (s.advantage, s.return_, s.weight, *s.token_advantages, *s.token_returns)))
    for report in done.reports.values():
        assert all(map(math.isfinite, report.values()))


def check_learned(done: Done, watched: Watched, run: Experiment, team: Team) -> None:
    """What one policy said is credited once an epoch, counts what the loop says, and moves the policy."""
    policy, report, algorithm = watched.policy, done.reports[watched.policy.name], run.algorithm

    def mine(turn: Turn) -> bool:
        return team.policy_of(turn.agent, turn.round) is policy and bool(turn.completion.token_ids)

    said = {id(turn.completion): turn for group in done.groups for turn in turns_in(group) if mine(turn)}
    epochs = settings_of(algorithm).get("epochs", 1)
    credited = Counter(row for _, rows in watched.stages for row, _ in rows)
    assert credited == Counter([answer(turn) for turn in said.values()] * epochs)
    for stage, rows in watched.stages:
        expected = by_the_loop(done, stage, algorithm.branching.follow, mine)
        counted = defaultdict[Answer, float](float)
        for row, weight in rows:
            counted[row] += weight
        # A mini-batch of 1 / M of the episodes stands for all of them.
        assert counted == pytest.approx({row: expected[row] * algorithm.needs.minibatches for row in counted})
    assert report.get("logprob_mismatch", 0.0) < 1e-5
    learns = any(any(s.token_advantages or (s.advantage,)) for stage, _ in watched.stages for s in stage)
    assert done.moved[policy.name] or not learns
    assert said or not done.moved[policy.name]
    if critic := done.reports.get(f"critic-{policy.name}"):
        assert critic["sequences"] == report["sequences"]  # a critic of one policy learns from what that learns from


@pytest.mark.parametrize("case", played(), ids=NAME)
def test_every_product(case: Case) -> None:
    team, run, moved = team_of(case[1]), experiment(case), set[str]()
    for done in training(run, team):
        check_numbers(done)
        assert set(done.watched) == {policy.name for policy in team.trainable}
        for watched in done.watched.values():
            check_learned(done, watched, run, team)
        assert not done.rest_moved
        moved |= {name for name, has in done.moved.items() if has}
    assert moved >= {policy.name for policy in team.seats.values() if policy.trainable}


@pytest.mark.parametrize("case", [case for case in CASES if refusal(case)], ids=NAME)
def test_what_cannot_work_is_refused_before_a_model_is_loaded(case: Case) -> None:
    run = experiment(case)
    nowhere = replace(run, team=replace(run.team, policy=replace(MODEL, model="/there/is/none")))
    with pytest.raises(ConfigError, match=refusal(case)) as caught, open_checked_task(nowhere):
        pass
    assert "\n" not in str(caught.value)


def test_alternatives_of_somebody_frozen_alone_teach_nobody() -> None:
    run = experiment(("counterfactual", "frozen", "parallel", 1))
    algorithm: Any = run.algorithm
    for agents, refused in ((("bob",), True), (("ann",), False), (("ann", "bob"), False)):
        varied = replace(run, algorithm=replace(algorithm, agents=agents))
        expected = pytest.raises(ConfigError, match=r"algorithm\.agents: .* bob") if refused else nullcontext()
        with expected, open_checked_task(varied):
            pass


def test_sides_that_learn_in_turns_must_both_learn() -> None:
    run = experiment(("ccpo", "frozen", "sequential", 1))
    algorithm: Any = run.algorithm
    refused, fine = (replace(run, algorithm=replace(algorithm, alternate=steps)) for steps in (10, 0))
    with pytest.raises(ConfigError, match=r"algorithm\.alternate: .* set it to 0"), open_checked_task(refused):
        pass
    with open_checked_task(fine):
        pass
