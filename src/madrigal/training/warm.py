"""The warm start: before RL every seat is fine-tuned on the best of n joint answers, or on demonstrations.

    kept_x = argmax_g R(x, g)   where   max_g R(x, g) > mean_g R(x, g)       g = 1..n joint answers to example x
    J      = mean over kept answers' tokens of log pi_i(token)               for each policy i, its own seats' turns

R is the return of an episode, the sum of its joint rewards. Where all n are equal the choice says nothing, and nothing
is learned: neither the answers to an example that nobody solves, nor those to one that everybody does.

References:
    Dong et al., 2023, "RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment", arXiv:2304.06767:
    fine-tuning on the best of K answers to each prompt. Zelikman et al., 2022, "STaR", arXiv:2203.14465: on a model's
    own answers that were right. Both have one model; joint answers, and the mean as the bar, are ours.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from madrigal.config import Experiment
from madrigal.evaluation.evaluate import percent_of_best
from madrigal.learning.learners import Learners
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import Generate, Judge
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Task
from madrigal.rollouts.tree import rollout_groups
from madrigal.runs.records import Record
from madrigal.runs.signals import Stop, StoppedError
from madrigal.training.demonstrations import Demonstration, episodes_of
from madrigal.types import Episode, Example, Group, Point, joint_reward


def warm_start(
    run: Experiment,
    task: Task[Any],
    learning: Learners,
    given: Sequence[Example] | Sequence[Demonstration],
    speak: Generate,
    judge: Judge,
    interrupted: Stop,
    lanes: int = 1,
) -> Iterator[Record]:
    """Fine-tunes every policy that learns; yields what was kept, and then a record of each epoch.

    Args:
        given: the examples to play, or demonstrations.
        lanes: see `rollouts.play.in_lanes`.

    Raises:
        StoppedError: before an optimizer step, once the run is to stop; it must begin again then.
    """
    config, began = run.warm, time.perf_counter()
    shown = [one for one in given if isinstance(one, Demonstration)]
    played, kept = [], episodes_of(shown, run, task, learning.team, judge)
    if not shown:
        origins = [Point(one.id, task.reset(one)) for one in given if isinstance(one, Example)]
        branching = Branching(width=config.samples)
        groups = rollout_groups(task, run.topology, origins, branching, speak, judge, (run.seed, "warm"), lanes)
        played = [episode for group in groups for episode in group.episodes]
        kept = [best for group in groups if (best := best_of(group)) is not None]
    yield {
        "examples": len(given),
        "samples": 0 if shown else config.samples,
        "kept": len(kept),
        "tokens": sum(turn.completion.tokens for episode in played for turn in episode.turns),
        **_returns("", task, played),
        **_returns("kept_", task, kept),
        "seconds": round(time.perf_counter() - began, 4),
    }
    for epoch in range(config.epochs if kept else 0):
        began, order = time.perf_counter(), list(kept)
        random.Random(derive(run.seed, "warm", epoch)).shuffle(order)
        batches = [order[n : n + config.batch] for n in range(0, len(order), config.batch)]
        reports = []
        for batch in batches:
            if interrupted():
                raise StoppedError
            reports.append(learning.imitate([turn for episode in batch for turn in episode.turns], config.lr))
        seconds = round(time.perf_counter() - began, 4)
        yield {"epoch": epoch, "optimizer_steps": len(batches), **_means(reports), "seconds": seconds}
    learning.begin_anew()


def row_in_words(row: Mapping[str, Any]) -> str:
    """A record of the warm start, for whoever watches it."""
    if "epoch" in row:
        losses = [f"{key.split('/')[1]} {value:.4g}" for key, value in row.items() if key.endswith("/loss")]
        return f"note: warm start, epoch {row['epoch'] + 1}: cross entropy {', '.join(losses)} nats a token"
    returns = [
        f"{row[key]:.4g} of {whose}" for key, whose in (("return", "all"), ("kept_return", "the kept")) if key in row
    ]
    return (
        f"note: warm start: {row['kept']} joint answers to {row['examples']} examples are learned from; mean return "
        f"{', '.join(returns)}"
    )


def best_of(group: Group[Any]) -> Episode[Any] | None:
    """The sibling with the highest return, the first of equals; None where it is not above their mean."""
    returns = [_return(episode) for episode in group.episodes]
    best = max(returns)
    return group.episodes[returns.index(best)] if best > fmean(returns) + 1e-9 else None


def _return(episode: Episode[Any]) -> float:
    return sum(map(joint_reward, episode.steps))


def _returns(which: str, task: Task[Any], episodes: Sequence[Episode[Any]]) -> Record:
    """Mean return, and mean normalized return of the last round."""
    if not episodes:
        return {}
    return {
        f"{which}return": fmean(map(_return, episodes)),
        f"{which}return_percent": fmean(percent_of_best(task, episode) for episode in episodes),
    }


def _means(reports: Sequence[Mapping[str, Mapping[str, float]]]) -> Record:
    """Over the optimizer steps of each policy, those in which it had nothing to learn left out."""
    rows = [{f"update/{name}/{key}": x for name, row in each.items() for key, x in row.items()} for each in reports]
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: fmean(row[key] for row in rows if key in row) for key in keys}
