"""Older selves in one of the seats: who meets whom, what they say, and that nobody learns from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.play import judge_of
from madrigal.algorithms.self_play import SelfPlay
from madrigal.learning import partners as module
from madrigal.learning.learner import Learner
from madrigal.learning.partners import Partners, copy_of
from madrigal.policies.generate import generate
from madrigal.policies.local import LocalPolicy, load_policy, put_weights, twin_of
from madrigal.policies.team import Team
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import numbered, rollout_groups
from madrigal.runs.checkpoint import load_checkpoint, save_checkpoint
from madrigal.settings import Lora, OptimizerConfig, PartnerConfig, PolicyConfig, Sampling
from madrigal.tasks.games.kuhn import Kuhn
from madrigal.tasks.games.table import Table
from madrigal.types import Completion, ConfigError, Message, Point

SEATS = ("first", "second")
TABLE = Table(Kuhn())
ORIGINS = [Point(example.id, TABLE.reset(example)) for example in TABLE.examples("train")[:40]]
ONE, FEW = Sampling(max_new_tokens=1), Sampling(max_new_tokens=4)
PROMPT = (Message("user", "You have 3 of 5. Which one is it?\n\nSolve it step by step. End with: The answer is N."),)


judge = judge_of(TABLE)


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


def answers(policy: LocalPolicy) -> list[str]:
    return [one.text for one in generate(policy, [PROMPT] * 12, range(12), FEW)]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def nobody(wanted: Sequence[GenerationRequest]) -> list[Completion]:
    raise AssertionError("nobody is to speak here")


def test_without_snapshots_everybody_meets_its_present_self(team: Team) -> None:
    for partners in (Partners(PartnerConfig(share=1.0), team.seats, ONE), Partners(PartnerConfig(), team.seats, ONE)):
        if not partners.config.share:
            partners.remember(0)
        (matchup,) = partners.matchups(ORIGINS, nobody, (0, 0))
        assert (matchup.origins, matchup.speak, matchup.key) == (tuple(ORIGINS), nobody, (0, 0))


def test_a_share_of_the_groups_meets_each_snapshot_in_each_seat(team: Team) -> None:
    partners = Partners(PartnerConfig(share=0.5, every=1, keep=2), team.seats, ONE)
    for step in range(4):
        partners.remember(step)
    assert len(partners.snapshots) == 2
    many = ORIGINS * 10
    met: Counter[Any] = Counter()
    for matchup in partners.matchups(many, nobody, ("seed", 7)):
        met[matchup.key[2:]] += len(matchup.origins)
    assert sum(met.values()) == 400
    assert met[()] == pytest.approx(200, abs=40)
    assert all(met["partner", number, seat] == pytest.approx(50, abs=25) for number in (0, 1) for seat in SEATS)
    again = partners.matchups(many, nobody, ("seed", 7))
    assert [matchup.origins for matchup in again] == [
        matchup.origins for matchup in partners.matchups(many, nobody, ("seed", 7))
    ]


def test_snapshots_are_taken_when_they_are_due(team: Team) -> None:
    partners = Partners(PartnerConfig(share=0.5, every=3, keep=9), team.seats, ONE)
    for step in range(7):
        partners.remember(step)
    assert len(partners.snapshots) == 3


@pytest.mark.parametrize("lora", [0, 4])
def test_older_weights_speak_in_a_policy_of_their_own(lora: int) -> None:
    policy = loaded(lora)
    shift(policy)  # a fresh adapter says what its base says
    before, said = copy_of(policy.parameters()), answers(policy)
    shift(policy)
    present, names = numbers(policy), set(policy.parameters())
    twin = twin_of(policy)
    put_weights(twin, before)
    assert answers(twin) == said != answers(policy)
    assert same(numbers(policy), present) and set(policy.parameters()) == names and not twin.trainable
    assert all(parameter.requires_grad for parameter in policy.parameters().values())


def test_weights_are_loaded_once_and_not_at_every_request(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    monkeypatch.setattr(module, "put_weights", lambda policy, weights: loads.append(policy.name))
    partners = Partners(PartnerConfig(share=1.0), team.seats, ONE)
    partners.remember(0)
    for _ in range(2):
        for matchup in partners.matchups(ORIGINS, team.speaker(ONE), (0, 0)):
            matchup.speak([GenerationRequest(seat, PROMPT, 1) for seat in SEATS])
    assert loads == ["team~twin"]


def test_the_older_self_says_what_it_said_then_and_shows_no_tokens(team: Team) -> None:
    policy = team.seats["first"]
    wanted = [GenerationRequest(agent, PROMPT, seed) for agent in SEATS for seed in range(12)]

    def each_seat() -> list[Completion]:
        """As a partner and its opponent are asked: a batch for each, since other batches are rounded in other ways."""
        return [one for part in (wanted[:12], wanted[12:]) for one in team.speaker(FEW)(part)]

    then = [one.text for one in each_seat()]
    partners = Partners(PartnerConfig(share=1.0), team.seats, FEW)
    partners.remember(0)
    shift(policy)
    now = each_seat()
    assert [one.text for one in now] != then
    for matchup in partners.matchups(ORIGINS, team.speaker(FEW), (0, 0)):
        said = matchup.speak(wanted)
        older = matchup.key[-1]
        for utterance, one, before, present in zip(wanted, said, then, now, strict=True):
            if utterance.agent == older:
                assert (one.text, one.token_ids, one.logprobs) == (before, (), ())
            else:
                assert (one.text, one.token_ids) == (present.text, present.token_ids)


def test_only_the_learners_own_turns_are_learned_from(team: Team) -> None:
    """A whole step: play in two kinds of company, credit, update; the sampler's weights are the learner's own."""
    policy = team.seats["first"]
    partners = Partners(PartnerConfig(share=0.5), team.seats, ONE)
    partners.remember(0)
    shift(policy)
    algorithm = SelfPlay(width=1, skip_zero=False)
    played = [
        (matchup.key[-1], group)
        for matchup in partners.matchups(ORIGINS, team.speaker(ONE), (0, 1))
        for group in rollout_groups(TABLE, Parallel(), matchup.origins, Branching(1), matchup.speak, judge, matchup.key)
    ]
    groups = list(zip([older for older, _ in played], numbered([group for _, group in played]), strict=True))
    stages, memory = algorithm.credit([group for _, group in groups], algorithm.begin())
    learned = {sample.turn.number for sample in stages[0]}
    for older, group in groups:
        for turn in group.episodes[0].turns:
            assert (turn.number in learned) == (turn.agent != older)
    assert {seat for seat, _ in groups} >= set(SEATS)
    before = numbers(policy)
    report = Learner(policy, OptimizerConfig(lr=1e-3), ONE).update(stages, algorithm.loss)
    assert report["sequences"] == len(learned) and report["logprob_mismatch"] < 1e-4
    assert not same(before, numbers(policy))
    assert set(memory) == {"kuhn/first", "kuhn/second"}


def test_seats_that_do_not_learn_are_not_given_away() -> None:
    fixed = load_policy("second", PolicyConfig("starter:small", trainable=False), torch.device("cpu"))
    partners = Partners(PartnerConfig(share=1.0), {"first": loaded(), "second": fixed}, ONE)
    partners.remember(0)
    assert {matchup.key[-1] for matchup in partners.matchups(ORIGINS, nobody, (0, 0))} == {"first"}


def test_snapshots_are_kept_in_a_checkpoint(team: Team, tmp_path: Path) -> None:
    partners, again = (Partners(PartnerConfig(share=0.5, every=1), team.seats, ONE) for _ in range(2))
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
