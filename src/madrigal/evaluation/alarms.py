"""Alarms: what went wrong in a run, read off its records.

Knows: the records of steps.jsonl, evaluation.json and episodes.jsonl, and what failing runs look like in them.
Does not know: files, models, tasks; it never stops a run.

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
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any, Literal

from madrigal.evaluation.metrics import distinct_n, overlap
from madrigal.evaluation.series import Series, number_in, owned, series

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
        shortest: the smallest window; runs shorter than three of them raise no alarm from their steps.
        lazy: an agent is lazy whose tokens, or share of tokens, fall below this part of what they were, or whose
            share falls below this part of an even share.
        alike: agents' texts are the same above this Jaccard overlap of their words.
        bland: an agent's texts are all alike below this part of the distinct word pairs that they had.
        drop: a mean has risen or fallen that moved by this part of itself, and by `sure` standard errors.
        sure: standard errors that a rise or fall must exceed.
        equal: there is no signal above this share of answers with advantage 0.
        drift: answers grew or shrank by this factor.
        cut_off: too many answers are cut off above this share.
        entropy: the entropy has collapsed below this part of what it was.
        random: the entropy has risen too far that is so many times what it was, and `nats` above it.
        nats: the least rise of entropy that counts.
        stale: nats per token between sampler and learner.
        kl: nats per token between policy and reference.
        costs: components whose rise is no gain; they count no part of a reward.
    """

    window: int = 20
    shortest: int = 5
    lazy: float = 0.25
    alike: float = 0.8
    bland: float = 0.3
    drop: float = 0.1
    sure: float = 3.0
    equal: float = 0.8
    drift: float = 3.0
    cut_off: float = 0.5
    entropy: float = 0.2
    random: float = 1.35
    nats: float = 0.5
    stale: float = 0.05
    kl: float = 1.5
    costs: frozenset[str] = frozenset(
        {"tests_timeout", "thin_wrapper", "aux_ignored", "expert_failed", "expert_failed_tries"}
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
    played = [r for r in episodes if "evaluation" not in r and number_in(r, "step") is not None]
    width = _width(len(steps), thresholds)
    found = [
        *_lazy_agents(steps, width, thresholds),
        *_same_texts(played, _width(len(played), thresholds), thresholds),
        *_bland_texts(played, _width(len(played), thresholds), thresholds),
        *_reward_hacking(steps, evaluations, width, thresholds),
        *_no_signal(steps, width, thresholds),
        *_lengths(steps, width, thresholds),
        *_updates(steps, width, thresholds),
    ]
    return sorted(found, key=lambda alarm: math.inf if alarm.step is None else alarm.step)


def _width(count: int, limits: Thresholds) -> int:
    width = min(limits.window, count // 3)
    return width if width >= limits.shortest else 0


def _lazy_agents(steps: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """Agents that fall silent while the others go on."""
    tokens = dict(owned(steps, "agent/*/tokens", width))
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


def _same_texts(played: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """Agents that all say the same."""
    said = [(int(record["step"]), [text for text in _last_texts(record).values() if text.strip()]) for record in played]
    alike = [(step, fmean(overlap(*pair) for pair in combinations(texts, 2))) for step, texts in said if len(texts) > 1]
    if mean := Series(tuple(alike), width).above(limits.alike):
        text = f"the agents' texts share {mean.value:.0%} of their words, above {limits.alike:.0%}"
        remedy = "give them different prompts, or a reward that pays for division"
        yield Alarm("role collapse", "warning", mean.step, f"{text}; {remedy}")


def _bland_texts(played: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """An agent that says the same whatever it is asked."""
    said = [(int(record["step"]), _last_texts(record)) for record in played]
    for agent in dict.fromkeys(agent for _, texts in said for agent in texts):
        own = [(step, texts[agent]) for step, texts in said if texts.get(agent, "").strip()]
        ends = range(width, len(own) + 1, width) if width else ()
        distinct = [(own[end - 1][0], distinct_n([text for _, text in own[end - width : end]])) for end in ends]
        measured = Series(tuple(distinct), 1)
        if mean := measured.below(limits.bland * measured.start):
            fell = f"distinct word pairs fell from {measured.start:.0%} to {mean.value:.0%}"
            text = f"agent {agent}: {fell}, below {limits.bland:.0%} of what they were"
            yield Alarm("role collapse", "warning", mean.step, f"{text}; raise the temperature or the KL weight")


def _last_texts(record: Record) -> dict[str, str]:
    """What each agent said last."""
    return {turn["agent"]: turn["text"] for turn in record["turns"]}


def _reward_hacking(
    steps: Sequence[Record], evaluations: Mapping[str, Record], width: int, limits: Thresholds
) -> Iterator[Alarm]:
    """Training that rises while held-out examples fall; a part that rises while the whole falls."""
    trained = series(steps, "reward", width).moved(limits.sure)
    fallen = [f"the reward fell by {-trained:.0%}"] if trained < -limits.drop else []
    if held_out := _held_out_fall(evaluations):
        fallen.append(held_out)
        if trained > limits.drop:
            text = f"the training reward rose by {trained:.0%}, beyond {limits.drop:.0%}, while {held_out}"
            remedy = "look for what the reward pays and the task does not want, or train on more examples"
            yield Alarm("reward hacking", "warning", None, f"{text}; {remedy}")
    for part, measured in owned(steps, "component/*", width):
        rise = 0.0 if part in limits.costs or part in ("reward", "return_percent") else measured.moved(limits.sure)
        if fallen and rise > limits.drop:
            text = f"component {part} rose by {rise:.0%}, beyond {limits.drop:.0%}, while {' and '.join(fallen)}"
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
    return float(number) if number.isdecimal() else {"before": -1.0}.get(name, math.inf)


def _no_signal(steps: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """Siblings that all earn the same, so that nothing is learned from them."""
    if mean := series(steps, "group/equal", width).above(limits.equal):
        text = f"{mean.value:.0%} of answers have advantage 0, above {limits.equal:.0%}"
        remedy = "raise width or temperature, take harder examples, or stop if the task is solved"
        yield Alarm("no signal", "warning", mean.step, f"{text}; {remedy}")


def _lengths(steps: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """Answers that grow, shrink, or no longer end."""
    for agent, tokens in owned(steps, "agent/*/tokens", width):
        mean = tokens.above(limits.drift * tokens.start) or tokens.below(tokens.start / limits.drift)
        if mean and tokens.start:
            text = f"agent {agent}: answers went from {tokens.start:.0f} to {mean.value:.0f} tokens"
            remedy = "check what the reward pays for length"
            yield Alarm("length drift", "notice", mean.step, f"{text}, beyond a factor of {limits.drift:g}; {remedy}")
    for agent, cut_off in owned(steps, "agent/*/cut_off", width):
        if mean := cut_off.above(limits.cut_off):
            text = f"agent {agent}: {mean.value:.0%} of answers are cut off, above {limits.cut_off:.0%}"
            remedy = "raise sampling.max_new_tokens, or pay for answers that end"
            yield Alarm("length drift", "notice", mean.step, f"{text}; {remedy}")


def _updates(steps: Sequence[Record], width: int, limits: Thresholds) -> Iterator[Alarm]:
    """Policies that no longer explore, whose sampler is another, or that left their reference."""
    for policy, entropy in owned(steps, "update/*/entropy", width):
        if mean := entropy.below(limits.entropy * entropy.start):
            text = f"policy {policy}: entropy fell from {entropy.start:.3g} to {mean.value:.3g} nats"
            remedy = "lower the learning rate, or raise the KL weight or the temperature"
            yield Alarm("entropy collapse", "warning", mean.step, f"{text}, below {limits.entropy:.0%} of it; {remedy}")
        if mean := entropy.above(max(limits.random * entropy.start, entropy.start + limits.nats)):
            text = f"policy {policy}: entropy rose from {entropy.start:.3g} to {mean.value:.3g} nats"
            remedy = "lower the learning rate, or raise the KL weight"
            yield Alarm("entropy rise", "warning", mean.step, f"{text}: answers become random; {remedy}")
    for name, key, limit, remedy in (
        ("stale sampler", "stale", limits.stale, "check that engine and learner hold the same weights and dtype"),
        ("large KL", "kl", limits.kl, "lower the learning rate, or raise the KL weight"),
    ):
        for policy, measured in owned(steps, f"update/*/{key}", width):
            if mean := measured.above(limit):
                text = f"policy {policy}: {key} is {mean.value:.3g} nats per token, above {limit:g}"
                yield Alarm(name, "warning", mean.step, f"{text}; {remedy}")
