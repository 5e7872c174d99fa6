"""Older selves in one of the seats: who meets whom, what they say, and that nobody learns from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from madrigal.algorithms.self_play import SelfPlay
from madrigal.learning.learner import Learner
from madrigal.learning.optimizer import Optimiser
from madrigal.learning.snapshots import PartnerConfig, Partners, changed, copy_of
from madrigal.maths.sampling import Sampling
from madrigal.policies.local import LocalPolicy, Lora, PolicyConfig, load_policy
from madrigal.policies.team import Team
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import Judge, Utterance
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import branch
from madrigal.runs.checkpoint import load_checkpoint, save_checkpoint
from madrigal.tasks.games.kuhn import Kuhn
from madrigal.tasks.games.table import Table
from madrigal.types import Completion, ConfigError, Message, Point, Readings, Step

SEATS = ("first", "second")
TABLE = Table(Kuhn())
ORIGINS = [Point(example.id, TABLE.reset(example)) for example in TABLE.examples("train")[:40]]
ONE, FEW = Sampling(max_new_tokens=1), Sampling(max_new_tokens=4)
PROMPT = (Message("user", "You have 3 of 5. Which one is it?\n\nSolve it step by step. End with: The answer is N."),)


def judge(requests: Sequence[Judge[Any]]) -> list[Step[Any]]:
    return [TABLE.step(request.state, request.actions) for request in requests]


def loaded(lora: int = 0) -> LocalPolicy:
    return load_policy("team", PolicyConfig("starter:small", lora=Lora(rank=lora)), torch.device("cpu"))


def shift(policy: LocalPolicy) -> None:
    """Other weights, so that other words are likely."""
    with torch.no_grad():
        for n, parameter in enumerate(policy.parameters().values()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n)))


@pytest.fixture
def team() -> Team:
    return Team(dict.fromkeys(SEATS, loaded()), shared=True)


def numbers(policy: LocalPolicy) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in policy.parameters().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def nobody(wanted: Sequence[Utterance]) -> list[Completion]:
    raise AssertionError("nobody is to speak here")


def test_without_snapshots_everybody_meets_its_present_self(team: Team) -> None:
    for partners in (Partners(PartnerConfig(share=1.0), team.seats), Partners(PartnerConfig(), team.seats)):
        if not partners.config.share:
            partners.remember(0)
        (seating,) = partners.seatings(ORIGINS, nobody, (0, 0))
        assert (seating.origins, seating.speak, seating.key) == (tuple(ORIGINS), nobody, (0, 0))


def test_a_share_of_the_groups_meets_each_snapshot_in_each_seat(team: Team) -> None:
    partners = Partners(PartnerConfig(share=0.5, every=1, keep=2), team.seats)
    for step in range(4):
        partners.remember(step)
    assert len(partners.snapshots) == 2
    many = ORIGINS * 10
    met: Counter[Any] = Counter()
    for seating in partners.seatings(many, nobody, ("seed", 7)):
        met[seating.key[2:]] += len(seating.origins)
    assert sum(met.values()) == 400
    assert met[()] == pytest.approx(200, abs=40)
    assert all(met["partner", number, seat] == pytest.approx(50, abs=25) for number in (0, 1) for seat in SEATS)
    again = partners.seatings(many, nobody, ("seed", 7))
    assert [seating.origins for seating in again] == [
        seating.origins for seating in partners.seatings(many, nobody, ("seed", 7))
    ]


def test_snapshots_are_taken_when_they_are_due(team: Team) -> None:
    partners = Partners(PartnerConfig(share=0.5, every=3, keep=9), team.seats)
    for step in range(7):
        partners.remember(step)
    assert len(partners.snapshots) == 3


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
@pytest.mark.parametrize("lora", [0, 4])
def test_a_policy_speaks_with_older_weights_and_is_itself_again(lora: int) -> None:
    policy = loaded(lora)
    before = copy_of(policy.parameters())
    shift(policy)
    present = numbers(policy)
    with pytest.raises(ZeroDivisionError), changed(policy, before):
        assert same(numbers(policy), before)
        raise ZeroDivisionError
    assert same(numbers(policy), present) and not same(present, before)


def test_the_older_self_says_what_it_said_then_and_shows_no_tokens(team: Team) -> None:
    policy = team.seats["first"]
    wanted = [Utterance(agent, PROMPT, seed) for agent in SEATS for seed in range(12)]

    def each_seat() -> list[Completion]:
        """As a partner and its opponent are asked: a batch for each, since other batches are rounded in other ways."""
        return [one for part in (wanted[:12], wanted[12:]) for one in team.speaker(FEW)(part)]

    then = [one.text for one in each_seat()]
    partners = Partners(PartnerConfig(share=1.0), team.seats)
    partners.remember(0)
    shift(policy)
    now = each_seat()
    assert [one.text for one in now] != then
    for seating in partners.seatings(ORIGINS, team.speaker(FEW), (0, 0)):
        said = seating.speak(wanted)
        older = seating.key[-1]
        for utterance, one, before, present in zip(wanted, said, then, now, strict=True):
            if utterance.agent == older:
                assert (one.text, one.token_ids, one.logprobs) == (before, (), ())
            else:
                assert (one.text, one.token_ids) == (present.text, present.token_ids)


def test_only_the_learners_own_turns_are_learned_from(team: Team) -> None:
    """A whole step: play in two kinds of company, credit, update; the sampler's weights are the learner's own."""
    policy = team.seats["first"]
    partners = Partners(PartnerConfig(share=0.5), team.seats)
    partners.remember(0)
    shift(policy)
    algorithm = SelfPlay(width=1, skip_zero=False)
    groups = [
        (seating.key[-1], group)
        for seating in partners.seatings(ORIGINS, team.speaker(ONE), (0, 1))
        for group in branch(TABLE, Parallel(), seating.origins, Branching(1), seating.speak, judge, seating.key)
    ]
    stages, memory = algorithm.credit([group for _, group in groups], algorithm.begin(), Readings())
    learned = {id(sample.turn) for sample in stages[0]}
    for older, group in groups:
        for turn in group.episodes[0].turns:
            assert (id(turn) in learned) == (turn.agent != older)
    assert {seat for seat, _ in groups} >= set(SEATS)
    before = numbers(policy)
    report = Learner(policy, Optimiser(lr=1e-3), ONE).update(stages, algorithm.loss)
    assert report["sequences"] == len(learned) and report["stale"] < 1e-4
    assert not same(before, numbers(policy))
    assert set(memory) == {"kuhn/first", "kuhn/second"}


def test_seats_that_do_not_learn_are_not_given_away() -> None:
    fixed = load_policy("second", PolicyConfig("starter:small", trainable=False), torch.device("cpu"))
    partners = Partners(PartnerConfig(share=1.0), {"first": loaded(), "second": fixed})
    partners.remember(0)
    assert {seating.key[-1] for seating in partners.seatings(ORIGINS, nobody, (0, 0))} == {"first"}


def test_snapshots_are_kept_in_a_checkpoint(team: Team, tmp_path: Path) -> None:
    partners, again = (Partners(PartnerConfig(share=0.5, every=1), team.seats) for _ in range(2))
    partners.remember(0)
    shift(team.seats["first"])
    partners.remember(1)
    states, _ = load_checkpoint(save_checkpoint(tmp_path, 1, {"partner-pool": partners.state()}, {}))
    again.restore(states["partner-pool"])
    assert len(again.snapshots) == 2
    for one, other in zip(partners.snapshots, again.snapshots, strict=True):
        assert same(one["team"], other["team"])


@pytest.mark.parametrize("settings", [{"share": 1.5}, {"every": 0}, {"keep": 0}])
def test_a_setting_that_cannot_work_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"partners.*{next(iter(settings))}"):
        PartnerConfig(**settings)
