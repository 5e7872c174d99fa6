"""Records of a training step: its numbers and sampled transcripts, as plain dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean, pstdev
from typing import Any

from madrigal.evaluation.evaluate import mean_metrics
from madrigal.types import Completion, Episode, Group, Sample, Turn, all_groups, joint_reward

Record = dict[str, Any]


def segments(groups: Sequence[Group[Any]]) -> Iterator[Episode[Any]]:
    """Every segment of play in a forest of groups."""
    return (episode for group in all_groups(groups) for episode in group.episodes)


def full_episodes(groups: Sequence[Group[Any]]) -> Iterator[Episode[Any]]:
    """Every full episode of a forest: its segments joined from the beginning to where nothing follows."""
    for group in groups:
        for stretch in group.episodes:
            if stretch.then is None:
                yield stretch
                continue
            for rest in full_episodes([stretch.then]):
                yield Episode(stretch.start, stretch.turns + rest.turns, stretch.steps + rest.steps)


def step_record(
    step: int,
    seconds: float,
    groups: Sequence[Group[Any]],
    stages: Sequence[Sequence[Sample]],
    updates: Mapping[str, Mapping[str, float]],
) -> Record:
    """One line of steps.jsonl.

    Keys: `reward` is the mean joint reward of a round; `component/<name>` means of the task's metrics;
    `agent/<id>/...` per agent; `update/<policy>/...` per learner; `group/return_std` the standard deviation of the
    returns of whole episodes that begin alike; `group/zero_advantage_fraction` the share of answers whose advantage is
    0, from which nothing can be learned. `tokens` counts what was generated beside the groups too, greedy or alone; so
    does what the answers of an endpoint took.
    """
    episodes = list(segments(groups))
    turns = [turn for episode in episodes for turn in episode.turns]
    beside = [turn for group in all_groups(groups) for episode in _beside(group) for turn in episode.turns]
    tokens = sum(turn.completion.tokens for turn in _distinct([*turns, *beside]))
    advantages = [sample.advantage for stage in stages for sample in stage]
    record: Record = {
        "step": step,
        "seconds": round(seconds, 4),
        "tokens": tokens,
        "tokens_per_second": tokens / seconds if seconds else 0.0,
        "episodes": len(episodes),
        "reward": fmean(joint_reward(s) for episode in episodes for s in episode.steps),
        "group/return_std": fmean(
            pstdev(sum(map(joint_reward, e.steps)) for e in full_episodes([group])) for group in groups
        ),
        "group/zero_advantage_fraction": fmean(abs(a) < 1e-9 for a in advantages) if advantages else 1.0,
    }
    ends = [episode for episode in episodes if episode.then is None]  # where the outcome of a whole episode stands
    record |= {f"component/{k}": v for k, v in mean_metrics(ends).items()}
    for agent in groups[0].agents:
        record |= _agent_record(agent, episodes, turns)
        record |= _usage_record(agent, [*turns, *beside])
    for policy, report in updates.items():
        record |= {f"update/{policy}/{key}": value for key, value in report.items()}
    return record


def transcripts(
    step: int, groups: Sequence[Group[Any]], stages: Sequence[Sequence[Sample]], count: int
) -> list[Record]:
    """The first `count` episodes of a step, whole, with reward and advantage per turn: lines of episodes.jsonl."""
    # Crossed joint actions share answers, and an answer is credited once.
    advantage_of = {sample.turn.number: sample.advantage for stage in stages for sample in stage}
    return [{"step": step, **transcript(episode, advantage_of)} for episode in islice(full_episodes(groups), count)]


def transcript(episode: Episode[Any], advantage_of: Mapping[int, float] | None = None) -> Record:
    """One episode as JSON: who saw what, who said what, what it earned.

    Args:
        advantage_of: by the number of an answer (`Turn.number`).
    """
    turns = []
    for turn in episode.turns:
        step = episode.steps[turn.round - episode.start.round]
        turns.append(
            {
                "round": turn.round,
                "agent": turn.agent,
                "prompt": [{"role": m.role, "content": m.content} for m in turn.prompt],
                "text": turn.completion.text,
                "tokens": turn.completion.tokens,
                "finish": turn.completion.finish,
                "reward": step.rewards[turn.agent],
                "advantage": (advantage_of or {}).get(turn.number),
                **_tokens(turn.completion),
            }
        )
    last = episode.steps[-1]
    return {
        "example": episode.start.example,
        "reward": sum(map(joint_reward, episode.steps)),
        "ending": last.ending,
        "metrics": dict(last.metrics),
        "details": dict(last.details),
        "turns": turns,
    }


def _tokens(completion: Completion) -> Record:
    """For each token the number of characters that it added and its log-prob; nothing where pieces are unknown."""
    if not completion.pieces:
        return {}
    # Three digits are more than an eye can tell, and adding 0.0 turns -0.0 into 0.0.
    logprobs = [round(logprob, 3) + 0.0 for logprob in completion.logprobs]
    return {"pieces": [len(piece) for piece in completion.pieces], "logprobs": logprobs}


def _beside(group: Group[Any]) -> tuple[Episode[Any], ...]:
    """What was played for a group's sake and is not one of its siblings."""
    return group.solo if group.greedy is None else (group.greedy, *group.solo)


def _distinct(turns: Sequence[Turn]) -> list[Turn]:
    """Crossed joint actions share answers; each was generated once."""
    return list({turn.number: turn for turn in turns}.values())


def _usage_record(agent: str, turns: Sequence[Turn]) -> Record:
    """What endpoints took to speak for an agent; nothing where none did."""
    usages = [turn.completion.usage for turn in _distinct(turns) if turn.agent == agent]
    counted = [usage for usage in usages if usage is not None]
    if not counted:
        return {}
    return {
        f"agent/{agent}/prompt_tokens": fmean(usage.prompt_tokens for usage in counted),
        f"agent/{agent}/cached_fraction": fmean(usage.cached for usage in counted),
        f"agent/{agent}/cost": sum(usage.cost for usage in counted),
    }


def _agent_record(agent: str, episodes: Sequence[Episode[Any]], turns: Sequence[Turn]) -> Record:
    completions = [turn.completion for turn in _distinct(turns) if turn.agent == agent]
    if not completions:
        return {}
    retries = sum(completion.retries for completion in completions)
    counts = [completion.tokens for completion in completions]
    return {
        f"agent/{agent}/reward": fmean(s.rewards[agent] for e in episodes for s in e.steps),
        **({f"agent/{agent}/tokens": fmean(counts)} if any(counts) else {}),  # a function's words are not counted
        f"agent/{agent}/truncated_fraction": fmean(completion.finish == "length" for completion in completions),
        f"agent/{agent}/seconds": fmean(completion.seconds for completion in completions),
        **({f"agent/{agent}/retries": float(retries)} if retries else {}),
    }
