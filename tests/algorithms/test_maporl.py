"""MAPoRL's credit: rewards of answers, advantages along their tokens, and what is learned in which step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, variance
from typing import Any

import pytest
import torch

from fakes.play import AGENTS, siblings, turn
from madrigal.algorithms.maporl import Maporl
from madrigal.algorithms.objective import whitened
from madrigal.rollouts.tree import map_turns, numbered
from madrigal.types import ConfigError, Episode, Group, Point, Sample, Step, TrainingError, Turn, TurnScores

PLAIN = Maporl(kl=0.0, whiten=False, epochs=1, minibatches=1)


def debate(scores: Sequence[Mapping[str, float]], details: Sequence[Mapping[str, Any]] = (), tokens: int = 2) -> Any:
    """One debate of ann and bob with these scores by round."""
    said = details or [{} for _ in scores]
    ends = [""] * (len(scores) - 1) + ["horizon"]
    steps = tuple(Step(None, s, end, details=d) for s, end, d in zip(scores, ends, said, strict=True))  # type: ignore[arg-type]
    turns = tuple(turn(agent, "x", n, tokens=tokens) for n in range(len(scores)) for agent in AGENTS)
    return Episode(Point("q", None), turns, steps)


def scored(*groups: Group[Any], value: float = 0.0, reference: float = -0.5) -> list[Group[Any]]:
    """Every token is worth `value` and has the log-prob `reference` under the reference policy."""

    def read(turn: Turn) -> Turn:
        tokens = len(turn.completion.token_ids)
        return replace(turn, scores=TurnScores((value,) * tokens, (reference,) * tokens))

    return map_turns(read, groups)


def credit(algorithm: Maporl, *groups: Group[Any], **read: float) -> list[list[Sample]]:
    stages, _ = algorithm.credit(scored(*groups, **read), algorithm.begin())
    return stages


def by_turn(stages: list[list[Sample]]) -> dict[tuple[str, int], Sample]:
    return {(s.turn.agent, s.turn.round): s for stage in stages for s in stage}


TWO = [{"ann": 1.0, "bob": 0.0}, {"ann": 0.5, "bob": 1.0}]


def test_an_answer_earns_its_influence_on_its_last_token() -> None:
    """ann in round 0: (1 + 0.3 * 0.75) / 1.3; with values of 0 and trace 1 every token is credited with it."""
    found = by_turn(credit(replace(PLAIN, trace=1.0), siblings(debate(TWO))))
    for key, reward in {
        ("ann", 0): (1.0 + 0.3 * 0.75) / 1.3,
        ("bob", 0): (0.0 + 0.3 * 0.75) / 1.3,
        ("ann", 1): 0.5,
        ("bob", 1): 1.0,
    }.items():
        assert found[key].return_ == pytest.approx(reward)
        assert found[key].token_advantages == pytest.approx((reward, reward))
        assert found[key].token_returns == pytest.approx((reward, reward))


def test_rewards_are_as_exact_as_the_scores() -> None:
    scores = {"ann": 0.1, "bob": 1 / 3}
    assert PLAIN.rewards(debate([scores]), AGENTS).tolist() == [[0.1, 1 / 3]]


def test_generalised_advantages_run_inside_one_answer() -> None:
    """Reward 1 after two tokens worth 0.25 each: delta = 0, 0.75; A = 0.95 * 0.75, 0.75. No later round is added."""
    found = by_turn(credit(PLAIN, siblings(debate([TWO[0], {"ann": 1.0, "bob": 0.0}])), value=0.25))
    last = found["ann", 1]
    assert last.token_advantages == pytest.approx((0.95 * 0.75, 0.75))
    assert last.token_returns == pytest.approx((0.95 * 0.75 + 0.25, 1.0))
    assert last.advantage == pytest.approx(fmean(last.token_advantages))


def test_the_divergence_from_the_reference_is_paid_token_by_token() -> None:
    """Log-probs -0.5 against -2.5 under the reference: each token costs 0.004; with trace 1 the first bears both."""
    found = by_turn(credit(replace(PLAIN, kl=0.002, trace=1.0), siblings(debate(TWO)), reference=-2.5))
    assert found["bob", 1].token_advantages == pytest.approx((1.0 - 0.008, 1.0 - 0.004))
    assert found["bob", 1].return_ == 1.0


def test_incentives_are_added_to_the_influence() -> None:
    """bob was wrong and becomes right while ann was right: persuaded (alpha1); ann persuaded him (beta1)."""
    scores = [{"ann": 0.9, "bob": 0.1}, {"ann": 0.9, "bob": 0.9}]
    details = [{"right": {"ann": True, "bob": False}}, {"right": {"ann": True, "bob": True}}]
    alone = by_turn(credit(PLAIN, siblings(debate(scores, details))))
    paid = by_turn(credit(replace(PLAIN, alpha1=0.5, beta1=2.0), siblings(debate(scores, details))))
    more = {key: paid[key].return_ - alone[key].return_ for key in alone}
    assert more == pytest.approx({("ann", 0): 2.0, ("bob", 0): 0.0, ("ann", 1): 0.0, ("bob", 1): 0.5})


def test_a_score_above_a_half_is_right_where_the_task_does_not_say() -> None:
    scores = [{"ann": 0.6, "bob": 0.5}, {"ann": 0.6, "bob": 0.51}]
    paid = by_turn(credit(replace(PLAIN, alpha1=8.0, score_discount=0.0), siblings(debate(scores))))
    assert paid["bob", 1].return_ == pytest.approx(0.51 + 8.0)


FLAWED = [{"flaws": {"ann": "", "bob": ""}}, {"flaws": {"ann": "short", "bob": ""}}]


def test_an_answer_that_is_none_earns_the_penalty_alone() -> None:
    found = by_turn(credit(PLAIN, siblings(debate(TWO, FLAWED))))
    unpunished = by_turn(credit(replace(PLAIN, penalty=None), siblings(debate(TWO, FLAWED))))
    assert found["ann", 1].return_ == -10.0
    for key in (("ann", 0), ("bob", 0), ("bob", 1)):
        assert found[key].return_ == unpunished[key].return_
    assert unpunished["ann", 1].return_ == 0.5


def test_a_spreading_penalty_weighs_on_everybody_s_earlier_rounds() -> None:
    """As in the public code: the score itself is -10, and the mean of round 1 is (-10 + 1) / 2."""
    found = by_turn(credit(replace(PLAIN, penalty_spreads=True), siblings(debate(TWO, FLAWED))))
    assert found["bob", 0].return_ == pytest.approx((0.0 + 0.3 * -4.5) / 1.3)
    assert found["ann", 1].return_ == -10.0


def test_advantages_are_whitened_for_each_agent_and_round() -> None:
    several = [debate([{"ann": a, "bob": 10 * a}, {"ann": 1 - a, "bob": a}], tokens=3) for a in (0.0, 0.25, 1.0)]
    (stage,) = credit(replace(PLAIN, whiten=True), siblings(*several))
    for agent in AGENTS:
        for index in (0, 1):
            mine = [s for s in stage if (s.turn.agent, s.turn.round) == (agent, index)]
            tokens = [value for s in mine for value in s.token_advantages]
            assert len(tokens) == 9
            assert fmean(tokens) == pytest.approx(0, abs=1e-9)
            assert variance(tokens) == pytest.approx(1, abs=1e-5)
            assert [s.advantage for s in mine] == pytest.approx([fmean(s.token_advantages) for s in mine])


def test_a_single_token_whitens_to_nothing() -> None:
    (found,) = whitened([Sample(turn("ann"), 3.0, 3.0, token_advantages=(3.0,))])
    assert found.token_advantages == (0.0,)


def test_every_epoch_deals_out_whole_debates() -> None:
    (one,) = numbered([siblings(*(debate(TWO) for _ in range(5)))])
    episodes = one.episodes
    stages = credit(replace(PLAIN, epochs=3, minibatches=2), one)
    assert [len(stage) for stage in stages] == [12, 8] * 3
    home = {turn.number: n for n, episode in enumerate(episodes) for turn in episode.turns}
    assert [{home[s.turn.number] for s in stage} for stage in stages[:2]] == [{0, 2, 4}, {1, 3}]
    assert {home[s.turn.number] for stage in stages[2:4] for s in stage} == set(range(5))
    assert Maporl().needs.minibatches == 8


def test_the_variant_without_verifier_trains_rebuttals_only() -> None:
    rebuttals = replace(PLAIN, first_round=1)
    assert set(by_turn(credit(rebuttals, siblings(debate(TWO))))) == {("ann", 1), ("bob", 1)}
    assert (rebuttals.needs.rounds, Maporl().needs.rounds) == (2, 1)


def test_one_round_at_a_time() -> None:
    """The public code's order for three rounds: round 1 for 20 steps, then rounds 2 and 1 in turn, 40 steps each."""
    focused = replace(PLAIN, first_round=1, focus_steps=40, focus_start=20)
    seen, memory, one = [], focused.begin(), siblings(debate([*TWO, TWO[1]]))
    for _ in range(101):
        (stage,), memory = focused.credit(scored(one), memory)
        seen.append({s.turn.round for s in stage})
    assert seen == [{1}] * 20 + [{2}] * 40 + [{1}] * 40 + [{2}]
    assert memory == {"steps": 101}


def test_debates_that_agreed_early_are_credited_up_to_their_last_round() -> None:
    short, long = debate(TWO[:1]), debate(TWO)
    (stage,) = credit(PLAIN, siblings(short, long))
    assert len(stage) == 6
    assert stage[0].return_ == 1.0


def test_policies_that_do_not_learn_are_not_credited() -> None:
    """No critic judges their turns; what they said still counts for the others."""
    read = {"ann": TurnScores((0.0, 0.0), (-1.0, -1.0)), "bob": TurnScores(())}
    one = map_turns(lambda turn: replace(turn, scores=read[turn.agent]), [siblings(debate(TWO))])
    (stage,), _ = PLAIN.credit(one, PLAIN.begin())
    assert [s.turn.agent for s in stage] == ["ann", "ann"]
    assert stage[0].return_ == pytest.approx((1.0 + 0.3 * 0.75) / 1.3)


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        (TurnScores((0.0,), (0.0, 0.0)), "expected values for each of the 2 tokens that ann said in round 0, got 1"),
        (TurnScores((0.0, 0.0), ()), "reference policy for each of the 2 tokens that ann said in round 0, got 0"),
        (TurnScores((0.0, 0.0)), "algorithm maporl, agent ann, round 0: expected the reference policy's log-probs"),
        (TurnScores(), "algorithm maporl, agent ann, round 0: expected a critic's values"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores: TurnScores, complaint: str) -> None:
    one = map_turns(lambda turn: replace(turn, scores=scores), [siblings(debate(TWO))])
    with pytest.raises(TrainingError, match=complaint):
        Maporl().credit(one, {"steps": 0})


def test_what_a_run_must_have() -> None:
    needs = Maporl().needs
    assert needs.critic is not None
    assert (needs.critic.sees, needs.critic.at, needs.critic.weight, needs.critic.clip) == ("own", "token", 0.1, 0.2)
    assert (needs.reference, needs.rewards) == ("credit", "own")
    assert Maporl(kl=0.0).needs.reference == ""
    assert Maporl().branching.width == 1


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"score_discount": 1.5}, "algorithm.score_discount: expected 0 to 1, got 1.5"),
        ({"trace": -1.0}, "algorithm.trace"),
        ({"epochs": 0}, "algorithm.epochs: expected at least 1, got 0"),
        ({"alpha0": float("nan")}, "algorithm.alpha0: expected None or a finite number"),
        ({"focus_steps": -1}, "algorithm.focus_steps: expected at least 0"),
        ({"width": 0}, "algorithm.width"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Maporl(**settings)


def test_the_loss_is_the_clipped_surrogate_over_tokens() -> None:
    from madrigal.maths.batch import PolicyOutput, make_batch

    (stage,) = credit(replace(PLAIN, trace=1.0), siblings(debate(TWO)))
    batch = make_batch(stage, 0, torch.device("cpu"))
    same = PolicyOutput(batch.old_logprobs, torch.zeros_like(batch.old_logprobs))
    assert float(PLAIN.loss(same, batch)) == pytest.approx(-float(batch.advantages.sum()) / 8)
    far = PolicyOutput(batch.old_logprobs + 1.0, same.entropy)
    assert float(PLAIN.loss(far, batch)) == pytest.approx(-1.2 * float(batch.advantages.sum()) / 8)
