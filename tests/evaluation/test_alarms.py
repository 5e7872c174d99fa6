"""Each alarm fires on the run that it is for, and a run that learns is silent."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from madrigal.evaluation.alarms import Alarm, Thresholds, alarms
from madrigal.evaluation.series import Series, match_keys, series

STEPS = 90
Record = dict[str, Any]
Change = Callable[[float, Record], Record]


def healthy(step: int, rng: random.Random) -> Record:
    """A run that learns: reward and components rise, entropy halves, lengths and shares wander."""
    done = step / STEPS
    noise = rng.gauss(0, 0.05)
    return {
        "step": step,
        "seconds": 1.0,
        "reward": 1 + done + noise,
        "group/zero_advantage_fraction": min(1.0, max(0.0, 0.2 + rng.gauss(0, 0.1))),
        "component/structure": 40 + 40 * done + 10 * noise,
        "component/coherence": 60 + rng.gauss(0, 3),
        "component/return_percent": 33 + 33 * done + noise,
        "component/words/ann": 20 + 20 * done,
        "component/tests_timeout": 0.0,
        "agent/ann/tokens": 40 + rng.gauss(0, 4),
        "agent/ann/truncated_fraction": 0.05,
        "agent/bob/tokens": 60 + 40 * done + rng.gauss(0, 6),
        "agent/bob/truncated_fraction": 0.1,
        "update/ann/entropy": 1.0 - 0.5 * done,
        "update/ann/logprob_mismatch": 1e-5,
        "update/ann/kl": 0.1 * done,
        "update/bob/entropy": 0.8 - 0.4 * done,
        "update/bob/logprob_mismatch": 1e-5,
        "update/bob/kl": 0.1 * done,
    }


def run(change: Change = lambda done, record: {}, count: int = STEPS) -> list[Record]:
    rng = random.Random(0)
    records = [healthy(step, rng) for step in range(count)]
    return [record | change(record["step"] / STEPS, record) for record in records]


def transcripts(text: Callable[[str, int], str], count: int = STEPS) -> list[Record]:
    return [
        {"step": step, "turns": [{"agent": agent, "text": text(agent, step)} for agent in ("ann", "bob")]}
        for step in range(count)
    ]


def own_words(agent: str, step: int) -> str:
    return " ".join(f"{agent}{(step * 7 + i * i) % 50}" for i in range(12))


def evaluation(mean: float, width: float = 4.0) -> Record:
    return {"return_percent": mean, "low": mean - width / 2, "high": mean + width / 2, "components": {}}


LEARNED = {"before": evaluation(33), "step-45": evaluation(50), "after": evaluation(66)}


def names(found: list[Alarm]) -> set[str]:
    return {alarm.name for alarm in found}


def test_a_healthy_run_is_silent() -> None:
    assert alarms(run(), LEARNED, transcripts(own_words)) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_stands_still_in_noise_is_silent(seed: int) -> None:
    rng = random.Random(seed)
    records = [
        {"step": step, "reward": rng.gauss(1, 0.5), "component/a": rng.gauss(0, 1), "component/b": rng.gauss(5, 2)}
        for step in range(60)
    ]
    assert alarms(records, {"before": evaluation(50), "after": evaluation(48)}) == []


@pytest.mark.parametrize("count", range(16))
def test_short_runs_break_nothing_and_raise_nothing(count: int) -> None:
    worst = {"group/zero_advantage_fraction": 1.0, "update/ann/kl": 9.0}
    assert alarms(run(lambda done, record: worst, count)[:14], {}, transcripts(own_words, count)) == []


def test_records_without_the_usual_keys_break_nothing() -> None:
    assert alarms([{"step": n} for n in range(30)], {"before": evaluation(1)}, [{"step": 0, "turns": []}] * 30) == []
    broken = run(lambda done, record: {"reward": math.nan, "agent/ann/tokens": 0.0, "agent/bob/tokens": 0.0})
    assert alarms(broken, LEARNED) == []


def fires(found: list[Alarm], name: str, *parts: str) -> Alarm:
    mine = [alarm for alarm in found if alarm.name == name]
    assert mine, (name, found)
    assert "\n" not in mine[0].text and ";" in mine[0].text
    for part in parts:
        assert part in mine[0].text
    return mine[0]


def test_an_agent_that_falls_silent() -> None:
    found = alarms(run(lambda done, record: {"agent/ann/tokens": 40 * (1 - done) ** 2}), LEARNED)
    alarm = fires(found, "lazy agent", "agent ann", "below 25%")
    assert alarm.level == "warning" and alarm.step is not None and 40 < alarm.step < STEPS
    assert not any("agent bob" in alarm.text for alarm in found if alarm.name == "lazy agent")


def test_an_agent_that_never_did_its_share() -> None:
    """5 of 65 tokens: a share of 0.077, where 0.125 is a quarter of an even share."""
    steady = {"agent/ann/tokens": 5.0, "agent/bob/tokens": 60.0}
    alarm = fires(alarms(run(lambda done, record: steady), {}), "lazy agent", "0.0769", "an even share")
    assert alarm.step == 19  # the last of the first twenty
    fair = {"agent/ann/tokens": 9.0, "agent/bob/tokens": 60.0}
    assert alarms(run(lambda done, record: fair), {}) == []


def test_an_agent_that_leaves_the_talking_to_the_other() -> None:
    """From 80 of 100 tokens to 30 of 200: neither a quarter of its length nor of an even share, but of its share."""

    def change(done: float, record: Record) -> Record:
        ann, bob = (80.0, 20.0) if done < 0.5 else (30.0, 170.0)
        return {"agent/ann/tokens": ann, "agent/bob/tokens": bob}

    limits = Thresholds(length_factor=100)
    assert names(alarms(run(change), {}, (), limits)) == {"lazy agent"}
    fires(alarms(run(change), {}, (), limits), "lazy agent", "agent ann: its share of tokens", "of what it was")


def test_a_single_agent_is_not_lazy() -> None:
    records = [{"step": n, "agent/ann/tokens": 40 * (1 - n / 90)} for n in range(STEPS)]
    assert "lazy agent" not in names(alarms(records, {}))


def test_agents_that_say_the_same() -> None:
    def merging(agent: str, step: int) -> str:
        return own_words(agent if step < 45 else "both", step)

    alarm = fires(alarms(run(), {}, transcripts(merging)), "role collapse", "share", "above 80%")
    # 17 of a window of 20 must be the same for a mean overlap above 0.8: those of steps 45 to 61
    assert alarm.step == 61


def test_an_agent_that_says_the_same_to_everybody() -> None:
    def bland(agent: str, step: int) -> str:
        return own_words(agent, step if agent == "ann" or step < 45 else 0)

    alarm = fires(alarms(run(), {}, transcripts(bland)), "role collapse", "agent bob", "distinct word pairs")
    assert alarm.step is not None and 45 < alarm.step < 66


def test_evaluations_are_not_taken_for_training() -> None:
    same = [{**record, "evaluation": "before"} for record in transcripts(lambda agent, step: "the same words")]
    assert alarms(run(), {}, same) == []


def test_a_part_that_rises_while_the_reward_falls() -> None:
    found = alarms(run(lambda done, record: {"reward": 2 - done + 0.01 * math.sin(99 * done)}), {})
    alarm = fires(found, "reward hacking", "component structure rose by", "the reward fell by")
    assert alarm.step is None and alarm.level == "warning"
    assert len([alarm for alarm in found if alarm.name == "reward hacking"]) == 1  # coherence and words did not


def test_costs_that_rise_are_no_gain() -> None:
    def change(done: float, record: Record) -> Record:
        return {"reward": 2 - done, "component/structure": 40.0, "component/tests_timeout": 5 * done}

    assert "reward hacking" not in names(alarms(run(change), {}))
    counted = alarms(run(change), {}, (), Thresholds(costs=frozenset()))
    fires(counted, "reward hacking", "component tests_timeout")


def test_training_that_rises_while_held_out_examples_fall() -> None:
    fallen = {"before": evaluation(50), "step-30": evaluation(60), "after": evaluation(52)}
    found = alarms(run(), fallen)
    fires(found, "reward hacking", "the training reward rose", "from 60.0 % (step-30) to 52.0 % (after)")
    assert any("component structure" in alarm.text for alarm in found)
    within = {"before": evaluation(50), "step-30": evaluation(60), "after": evaluation(57)}
    assert alarms(run(), within) == []


def test_evaluations_are_read_in_the_order_of_steps() -> None:
    """As text, step-100 comes before step-20."""
    rising = {"step-100": evaluation(70), "step-20": evaluation(50), "before": evaluation(40)}
    assert alarms(run(), rising) == []
    fires(alarms(run(), {**rising, "step-100": evaluation(30)}), "reward hacking", "(step-20)", "(step-100)")


def parts(mean: float, width: float = 10.0) -> Record:
    return evaluation(50) | {"intervals": {"structure": [mean - width / 2, mean + width / 2]}}


def half_from(start: float) -> Change:
    """A component of 60 in training, and of 30 from a part of the run on."""
    return lambda done, record: {"component/structure": 60.0 if done < start else 30.0}


def test_a_part_that_falls_in_training_alone() -> None:
    """Wrong labels from step 45 on: at step 60 15 of the last 20 steps have them, and the mean is 37.5."""
    held_out = {"before": parts(60), "step-30": parts(60), "step-60": parts(58), "after": parts(57)}
    alarm = fires(alarms(run(half_from(0.5)), held_out), "training falls alone", "structure fell by 38%", "step-60")
    assert (alarm.level, alarm.step) == ("notice", 59)


def test_a_part_that_falls_everywhere_is_no_fault_of_the_labels() -> None:
    fallen = {"before": parts(60), "step-60": parts(35), "after": parts(30)}
    assert "training falls alone" not in names(alarms(run(half_from(0.5)), fallen))


def test_what_was_wrong_from_the_start_is_not_seen() -> None:
    held_out = {"before": parts(60), "step-60": parts(58)}
    assert "training falls alone" not in names(alarms(run(half_from(0.0)), held_out))


def test_training_is_held_against_the_team_after_its_warm_start() -> None:
    """Training and held-out examples fell by half since then; the held-out ones are no worse than before it."""
    warmed = {"before": parts(30), "warm": parts(60), "after": parts(30)}
    assert "training falls alone" not in names(alarms(run(half_from(0.5)), warmed))


def test_costs_that_fall_are_no_loss() -> None:
    held_out = {name: evaluation(50) | {"intervals": {"tests_timeout": [5.0, 6.0]}} for name in ("before", "after")}
    assert alarms(run(lambda done, record: {"component/tests_timeout": 6 - 5 * done}), held_out) == []


def test_groups_without_a_signal() -> None:
    found = alarms(run(lambda done, record: {"group/zero_advantage_fraction": 1.0 if done > 0.5 else 0.2}), LEARNED)
    alarm = fires(found, "no signal", "above 80%", "raise width or temperature")
    # 16 of 20 at 1 and 4 at 0.2 give 0.84, 15 give exactly 0.8: the sixteenth after step 45 is step 61
    assert alarm.step == 61


@pytest.mark.parametrize(("factor", "alarmed"), [(4.0, True), (2.5, False), (0.3, True), (0.5, False)])
def test_answers_that_grow_or_shrink(factor: float, alarmed: bool) -> None:
    def change(done: float, record: Record) -> Record:
        now = factor if done > 0.5 else 1.0
        return {"agent/ann/tokens": 40 * now, "agent/bob/tokens": 60 * now}

    found = alarms(run(change), LEARNED)
    assert ("length drift" in names(found)) is alarmed
    if alarmed:
        assert fires(found, "length drift", "agent ann", "from 40").level == "notice"


def test_answers_that_no_longer_end() -> None:
    found = alarms(run(lambda done, record: {"agent/bob/truncated_fraction": done}), LEARNED)
    assert fires(found, "length drift", "agent bob", "cut off, above 50%").level == "notice"


def test_entropy_that_collapses() -> None:
    found = alarms(run(lambda done, record: {"update/bob/entropy": math.exp(-5 * done)}), LEARNED)
    fires(found, "entropy collapse", "policy bob", "below 20%")
    assert names(found) == {"entropy collapse"}


def test_entropy_that_rises() -> None:
    found = alarms(run(lambda done, record: {"update/bob/entropy": 2.9 + 1.4 * done}), LEARNED)
    fires(found, "entropy rise", "policy bob", "random")
    assert names(found) == {"entropy rise"}


def test_odd_values_are_left_out() -> None:
    """Files may hold anything: a text, null, a number beyond every scale, a step that is no number."""

    def odd(done: float, record: Record) -> Record:
        return {"reward": "1", "group/zero_advantage_fraction": 10**400, "update/bob/kl": math.nan}

    said = [{"step": math.nan, "turns": []}, *transcripts(own_words)]
    assert alarms([*run(odd), {"step": math.nan, "reward": 1.0}, {}], LEARNED, said) == []


@pytest.mark.parametrize(
    ("key", "value", "name"), [("logprob_mismatch", 0.08, "stale sampler"), ("kl", 2.0, "large KL")]
)
def test_samplers_and_policies_that_are_far_off(key: str, value: float, name: str) -> None:
    found = alarms(run(lambda done, record: {f"update/ann/{key}": value if done > 0.6 else 0.0}), LEARNED)
    fires(found, name, "policy ann", "nats per token")
    assert names(found) == {name}


def test_alarms_come_in_the_order_of_steps_and_those_of_the_whole_run_last() -> None:
    def change(done: float, record: Record) -> Record:
        return {"group/zero_advantage_fraction": 1.0, "update/ann/kl": 3 * done, "reward": 2 - done}

    found = alarms(run(change), {})
    assert [alarm.name for alarm in found] == ["no signal", "large KL", "reward hacking"]


def test_thresholds_are_the_callers_to_choose() -> None:
    assert alarms(run(), LEARNED, (), replace(Thresholds(), kl=0.01)) != []


def test_windows_by_hand() -> None:
    four = Series(((0, 1.0), (2, 3.0), (4, 5.0), (6, 1.0)), width=2)
    assert [(mean.step, mean.value) for mean in four.means] == [(2, 2.0), (4, 4.0), (6, 3.0)]
    assert four.start == 2.0 and four.above(2.5) == four.means[1] and four.below(2.0) is None
    assert four.moved(standard_errors=0.5) == pytest.approx((3 - 2) / 3)
    # standard error: sqrt(1 + 4) / sqrt(2) = 1.58, above the change of 1
    assert four.moved(standard_errors=1.0) == 0.0
    empty = Series(four.points, width=0)
    assert empty.means == [] and math.isnan(empty.start) and empty.above(0) is None and empty.moved(0) == 0.0


def test_series_are_found_by_pattern() -> None:
    records = [{"step": 0, "agent/ann/tokens": 1, "agent/ann/x/tokens": 2, "agent/tokens": 3}, {"step": 1}]
    assert [name for name, _ in match_keys(records, "agent/*/tokens", 1)] == ["ann"]
    assert series(records, "agent/ann/tokens", 1).points == ((0, 1.0),)
