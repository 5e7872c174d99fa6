"""Alarms: signs of failed training in the records of a run.

An alarm says what was measured, the threshold, and what to try. It is a hint, not a verdict: all thresholds are ours,
chosen so that the runs on starter models which learn raise no warning. Values are means over windows of steps; a run
shorter than three windows is too short for any.

References (for the failures; none gives these thresholds):
    Skalse et al., 2022, "Defining and Characterizing Reward Hacking", arXiv:2209.13085.
    Yu et al., 2025, "DAPO", arXiv:2503.14476: groups without a signal, entropy, lengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Any, Literal

from madrigal.evaluation.metrics import distinct_n, overlap
from madrigal.evaluation.series import Series, match_keys, number_in, series
from madrigal.types import AgentId

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that looks wrong.

    Attributes:
        name: what kind of failure it may be.
        level: a notice is worth a look, a warning worth an interruption.
        step: the last step of the first window that crossed the threshold; None where no step can be named.
        text: one line: what was measured, the threshold, what to try.
    """

    name: str
    level: Literal["notice", "warning"]
    step: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When to raise an alarm; every default is ours.

    Attributes:
        window: steps whose mean is compared; at most a third of the run.
        min_window: the smallest window; runs shorter than three of them raise no alarm from their steps.
        lazy: an agent is lazy whose tokens, or share of tokens, fall below this part of what they were, or whose
            share falls below this part of an even share.
        overlap: agents' texts are the same above this Jaccard overlap of their words.
        distinct: an agent's texts are all alike below this part of the distinct word pairs that they had.
        change: a mean has risen or fallen that moved by this part of itself, and by `standard_errors`.
        standard_errors: what a rise or fall must exceed.
        zero_advantage: there is no signal above this share of answers with advantage 0.
        length_factor: answers grew or shrank by this factor.
        truncated_fraction: too many answers are cut off above this share.
        entropy_fall: the entropy has collapsed below this part of what it was.
        entropy_rise: the entropy has risen too far that is so many times what it was, and `entropy_nats` above it.
        entropy_nats: the least rise of entropy that counts.
        logprob_mismatch: nats per token between sampler and learner.
        kl: nats per token between policy and reference.
        apart: a component of training has fallen alone that lost this part of itself, where held-out examples kept
            theirs.
        costs: components whose rise is no gain; they count no part of a reward.
    """

    window: int = 20
    min_window: int = 5
    lazy: float = 0.25
    overlap: float = 0.8
    distinct: float = 0.3
    change: float = 0.1
    standard_errors: float = 3.0
    zero_advantage: float = 0.8
    length_factor: float = 3.0
    truncated_fraction: float = 0.5
    entropy_fall: float = 0.2
    entropy_rise: float = 1.35
    entropy_nats: float = 0.5
    logprob_mismatch: float = 0.05
    kl: float = 1.5
    apart: float = 0.25
    costs: frozenset[str] = frozenset(
        {
            "tests_timeout",
            "thin_wrapper",
            "aux_ignored",
            "expert_failed",
            "expert_failed_tries",
            "verifier_failed_tries",
        }
    )


def alarms(
    steps: Sequence[Record],
    evaluations: Mapping[str, Record],
    episodes: Sequence[Record] = (),
    thresholds: Thresholds = Thresholds(),
) -> list[Alarm]:
    """Everything that looks wrong in a run, in the order of the steps; [] where nothing does, or too little is known.

    Args:
        steps: the records of steps.jsonl.
        evaluations: evaluation.json, by name: before, step-N, after.
        episodes: the records of episodes.jsonl; without them the agents' texts are not compared.
    """
    width = _width(len(steps), thresholds)
    found = [
        *_lazy_agents(steps, width, thresholds),
        *_role_collapse(episodes, thresholds),
        *_reward_hacking(steps, evaluations, width, thresholds),
        *_falls_alone(steps, evaluations, width, thresholds),
        *_no_signal(steps, width, thresholds),
        *_lengths(steps, width, thresholds),
        *_updates(steps, width, thresholds),
    ]
    return sorted(found, key=lambda alarm: math.inf if alarm.step is None else alarm.step)


def _width(count: int, limits: Thresholds) -> int:
    width = min(limits.window, count // 3)
    return width if width >= limits.min_window else 0


def _lazy_agents(steps: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """Agents that fall silent while the others go on."""
    tokens = dict(match_keys(steps, "agent/*/tokens", width))
    if len(tokens) < 2:
        return
    part, fair = limits.lazy, 1 / len(tokens)
    for agent, own in tokens.items():
        share = _share(own, tokens.values())
        for what, measured, bar, than in (
            ("share of tokens", share, part * fair, "an even share"),
            ("share of tokens", share, part * share.start, "what it was"),
            ("length", own, part * own.start, "what it was"),
        ):
            if mean := measured.below(bar):
                text = f"agent {agent}: its {what} fell to {mean.value:.3g}, below {part:.0%} of {than}"
                yield Alarm("lazy agent", "warning", mean.step, f"{text}; pay for its part, or read what it says")
                break


def _share(own: Series, everybody: Iterable[Series]) -> Series:
    """One agent's part of all mean lengths, in steps where every agent spoke."""
    spoken = [dict(one.points) for one in everybody]
    totals = {
        step: sum(lengths[step] for lengths in spoken) for step, _ in own.points if all(step in s for s in spoken)
    }
    return Series(tuple((step, value / totals[step]) for step, value in own.points if totals.get(step)), own.width)


def _role_collapse(episodes: Sequence[Record], limits: Thresholds) -> Iterator[Alarm]:
    """Agents whose last texts are all the same, or an agent that says the same whatever it is asked."""
    trained = [r for r in episodes if "evaluation" not in r and number_in(r, "step") is not None]
    texts = [(int(r["step"]), _last_texts(r)) for r in trained]
    width = _width(len(trained), limits)
    pairs = [(step, list(combinations(last.values(), 2))) for step, last in texts]
    shared = [(step, fmean(overlap(*pair) for pair in some)) for step, some in pairs if some]
    if mean := Series(tuple(shared), width).above(limits.overlap):
        text = f"the agents' texts share {mean.value:.0%} of their words, above {limits.overlap:.0%}"
        remedy = "give them different prompts, or a reward that pays for division"
        yield Alarm("role collapse", "warning", mean.step, f"{text}; {remedy}")
    for agent in dict.fromkeys(agent for _, last in texts for agent in last):
        own = [(step, last[agent]) for step, last in texts if agent in last]
        ends = range(width, len(own) + 1, width) if width else ()
        distinct = [(own[end - 1][0], distinct_n([text for _, text in own[end - width : end]])) for end in ends]
        measured = Series(tuple(distinct), 1)
        if mean := measured.below(limits.distinct * measured.start):
            fell = f"distinct word pairs fell from {measured.start:.0%} to {mean.value:.0%}"
            text = f"agent {agent}: {fell}, below {limits.distinct:.0%} of what they were"
            yield Alarm("role collapse", "warning", mean.step, f"{text}; raise the temperature or the KL weight")


def _last_texts(record: Record) -> dict[AgentId, str]:
    """What each agent wrote last, where that is not blank."""
    last = {turn["agent"]: turn["text"] for turn in record["turns"]}
    return {agent: text for agent, text in last.items() if text.strip()}


def _reward_hacking(
    steps: Sequence[Record], evaluations: Mapping[str, Record], width: int, limits: Thresholds
) -> Iterator[Alarm]:
    """Training that rises while held-out examples fall; a part that rises while the whole falls."""
    trained = series(steps, "reward", width).moved(limits.standard_errors)
    fallen = [f"the reward fell by {-trained:.0%}"] if trained < -limits.change else []
    if held_out := _held_out_fall(evaluations):
        fallen.append(held_out)
        if trained > limits.change:
            text = f"the training reward rose by {trained:.0%}, beyond {limits.change:.0%}, while {held_out}"
            remedy = "look for what the reward pays and the task does not want, or train on more examples"
            yield Alarm("reward hacking", "warning", None, f"{text}; {remedy}")
    for part, measured in match_keys(steps, "component/*", width):
        gains = part not in (*limits.costs, "reward", "return_percent")
        rise = measured.moved(limits.standard_errors) if gains else 0.0
        if fallen and rise > limits.change:
            text = f"component {part} rose by {rise:.0%}, beyond {limits.change:.0%}, while {' and '.join(fallen)}"
            yield Alarm("reward hacking", "warning", None, f"{text}; lower what {part} pays, or gate it")


def _held_out_fall(evaluations: Mapping[str, Record]) -> str:
    """Says that the last held-out return lies below the best earlier one, beyond both intervals; "" if it does not."""
    names = sorted(evaluations, key=_when)
    if len(names) < 2:
        return ""
    best, last = max(names[:-1], key=lambda name: float(evaluations[name]["return_percent"])), names[-1]
    if evaluations[last]["high"] >= evaluations[best]["low"]:
        return ""
    before, after = (float(evaluations[name]["return_percent"]) for name in (best, last))
    return f"the held-out return fell from {before:.1f} % ({best}) to {after:.1f} % ({last})"


def _when(name: str) -> float:
    """The place of an evaluation in a run."""
    number = name.removeprefix("step-")
    return float(number) if number.isdecimal() else {"before": -1.0, "warm": 0.0}.get(name, math.inf)


def _falls_alone(
    steps: Sequence[Record], evaluations: Mapping[str, Record], width: int, limits: Thresholds
) -> Iterator[Alarm]:
    """A part that falls in training and not on held-out examples: labels, judge or play of training are at fault.

    Compares the window that ends with an evaluation with the first one, at the first evaluation that shows a fall, by
    the part that fell most. What is wrong from the start is not seen.
    """
    names = sorted(evaluations, key=_when)
    trained = [name for name in names if _when(name) > 0]
    begun = next((name for name in reversed(names) if _when(name) <= 0), "")  # after a warm start, if there was one
    for name in trained if begun else ():
        fallen = []
        for part, measured in match_keys(steps, "component/*", width):
            first, now = (evaluations[when].get("intervals", {}).get(part) for when in (begun, name))
            until = replace(measured, points=tuple(point for point in measured.points if point[0] < _when(name)))
            moved = until.moved(limits.standard_errors)
            kept = first and now and now[0] >= (1 - limits.apart) * first[1]
            if kept and moved < -limits.apart and part not in limits.costs:
                fallen.append((moved, part, until.means[-1].step, now[0]))
        if fallen:
            moved, part, step, low = min(fallen)
            text = f"component {part} fell by {-moved:.0%} in training, beyond {limits.apart:.0%}, and not on held-out"
            text += (
                f" examples ({low:.3g} at least, {name}); look at the labels, the judge and the speakers of training"
            )
            yield Alarm("training falls alone", "notice", step, text)
            return


def _no_signal(steps: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """Siblings that all earn the same, so that nothing is learned from them."""
    if mean := series(steps, "group/zero_advantage_fraction", width).above(limits.zero_advantage):
        text = f"{mean.value:.0%} of answers have advantage 0, above {limits.zero_advantage:.0%}"
        remedy = "raise width or temperature, take harder examples, or stop if the task is solved"
        yield Alarm("no signal", "warning", mean.step, f"{text}; {remedy}")


def _lengths(steps: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """Answers that grow, shrink, or no longer end."""
    factor = limits.length_factor
    for agent, tokens in match_keys(steps, "agent/*/tokens", width):
        mean = tokens.above(factor * tokens.start) or tokens.below(tokens.start / factor)
        if mean and tokens.start:
            text = f"agent {agent}: answers went from {tokens.start:.0f} to {mean.value:.0f} tokens"
            remedy = "check what the reward pays for length"
            yield Alarm("length drift", "notice", mean.step, f"{text}, beyond a factor of {factor:g}; {remedy}")
    for agent, truncated_fraction in match_keys(steps, "agent/*/truncated_fraction", width):
        if mean := truncated_fraction.above(limits.truncated_fraction):
            text = f"agent {agent}: {mean.value:.0%} of answers are cut off, above {limits.truncated_fraction:.0%}"
            remedy = "raise sampling.max_new_tokens, or pay for answers that end"
            yield Alarm("length drift", "notice", mean.step, f"{text}; {remedy}")


def _updates(steps: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """Policies that no longer explore, whose sampler is another, or that left their reference."""
    gentler = "lower the learning rate, or raise the KL weight"
    for policy, entropy in match_keys(steps, "update/*/entropy", width):
        start, fall = entropy.start, limits.entropy_fall
        if mean := entropy.below(fall * start):
            text = f"policy {policy}: entropy fell from {start:.3g} to {mean.value:.3g} nats, below {fall:.0%} of it"
            yield Alarm("entropy collapse", "warning", mean.step, f"{text}; {gentler} or the temperature")
        if mean := entropy.above(max(limits.entropy_rise * start, start + limits.entropy_nats)):
            text = f"policy {policy}: entropy rose from {start:.3g} to {mean.value:.3g} nats: answers become random"
            yield Alarm("entropy rise", "warning", mean.step, f"{text}; {gentler}")
    weights = "check that engine and learner hold the same weights and dtype"
    for name, key, limit, remedy in (
        ("stale sampler", "logprob_mismatch", limits.logprob_mismatch, weights),
        ("large KL", "kl", limits.kl, gentler),
    ):
        for policy, measured in match_keys(steps, f"update/*/{key}", width):
            if mean := measured.above(limit):
                text = f"policy {policy}: {key} is {mean.value:.3g} nats per token, above {limit:g}"
                yield Alarm(name, "warning", mean.step, f"{text}; {remedy}")
