"""Counterfactual influence: the mutual information of one agent's message and a teammate's next action.

In a context h, everything before one agent's message, K candidate messages are drawn. For each, the listener's next
action is drawn. With J the index of the candidate and Y the action, canonicalised and hashed,

    I(J; Y | h) = sum_{j,y} p(j,y) * ln( p(j,y) / (p(j) * p(y)) )          nats, from 0 to ln K

is 0 for a listener that ignores the message and ln K for one whose action gives it away. The estimate is the plug-in
one with Laplace smoothing over the table of counts, which pulls it towards 0: with one reply per candidate and K = 8 a
perfectly copied message measures 0.036, not ln 8 = 2.079. Compare like with like, or draw more replies. A message that
ends the episode before the listener acts has had an effect too: Y is then a symbol of its own, ENDED.

References:
    Chen et al., 2026, "Contextual Counterfactual Credit Assignment", arXiv:2603.06859, and its code: the diagnostic, 8
    candidates, 64 symbols, alpha 1. That rarer actions are pooled into one symbol more, and that the smoothing covers
    the symbols seen in the context, are our readings.
    Jaques et al., 2019, "Social Influence as Intrinsic Motivation", arXiv:1810.08647: influence as mutual information.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from madrigal.evaluation.evaluate import EvalSetup
from madrigal.evaluation.statistics import Interval, bootstrap
from madrigal.rollouts.play import EpisodeRun, GenerationRequest, Play, SpeakRequest, drive, play
from madrigal.rollouts.seeds import derive
from madrigal.types import AgentId, Completion, ConfigError, Episode, Messages, Point, Turn

SYMBOLS = 64
ALPHA = 1.0
ENDED = "\0the episode ended"


@dataclass(frozen=True, slots=True)
class Influence:
    """The influence of one agent on another.

    Attributes:
        nats: mean over contexts, with its bootstrap interval.
        contexts: the estimate of each context, in the order of the examples.
        ceiling: ln K, which no context can exceed.
        copied: what a listener measures that repeats every message, with as many draws and the same smoothing.
    """

    nats: Interval
    contexts: tuple[float, ...]
    ceiling: float
    copied: float


def mutual_information(replies: Sequence[Sequence[str]], symbols: int = SYMBOLS, alpha: float = ALPHA) -> float:
    """The plug-in estimate of the mutual information I(J; Y) of message and action, in nats.

        p(j,y) = (n_jy + alpha) / (N + alpha * K * V)          V: different symbols seen

    >>> round(mutual_information([["yes"], ["no"]], alpha=0), 4), round(math.log(2), 4)
    (0.6931, 0.6931)
    >>> mutual_information([["Yes"], ["yes "]])
    0.0

    Args:
        replies: for each candidate message, the texts that it was answered with; at least one each.
        symbols: the most frequent actions that stay apart; all others are one symbol more.
        alpha: added to every count.

    Raises:
        ConfigError: if there are no candidates, one has no reply, or a setting cannot work.
    """
    if not replies or not all(replies) or symbols < 1 or alpha < 0:
        raise ConfigError("influence: expected a reply to every candidate, at least 1 symbol and alpha of 0 or more")
    actions = [[symbol(text) for text in texts] for texts in replies]
    # Ties go to what was said first, so that the estimate does not depend on hashes.
    frequent = Counter(action for row in actions for action in row).most_common(symbols)
    columns_of = {action: column for column, (action, _) in enumerate(frequent)}
    counts = [Counter(columns_of.get(action, symbols) for action in row) for row in actions]
    columns = sorted(set().union(*counts))
    table = [[row[column] + alpha for column in columns] for row in counts]
    total = sum(map(sum, table))
    p_message = [sum(row) / total for row in table]
    p_action = [sum(column) / total for column in zip(*table, strict=True)]
    terms = (
        cell / total * math.log(cell / total / (p_message[j] * p_action[y]))
        for j, row in enumerate(table)
        for y, cell in enumerate(row)
        if cell
    )
    return max(0.0, math.fsum(terms))


def symbol(text: str) -> int:
    """The hash of a text in canonical form: Unicode NFKC, case folded, white space reduced to single blanks."""
    return derive(" ".join(unicodedata.normalize("NFKC", text).casefold().split()))


def influence(
    setup: EvalSetup,
    speaker: AgentId,
    listener: AgentId,
    *,
    candidates: int = 8,
    replies: int = 1,
    alpha: float = ALPHA,
) -> Influence:
    """The mutual information of one agent's first message and another's next action; one context per example.

    What is said before the message is drawn once and stays; so does what others say at the same time. Replies to
    different candidates share their seeds, so that a listener that ignores the message answers all of them alike.

    Args:
        speaker: whose message is varied.
        listener: whose next action is watched: later in the round in sequential play, else in the next round. Where the
            episode ends before that, the action is ENDED.
        candidates: K, the messages drawn in each context.
        replies: the actions drawn for each message.
        alpha: added to every count; 0 is the plain plug-in estimate, which is too high where replies vary by chance.

    Raises:
        ConfigError: if the agents are not two of the task's, or the listener acts after the speaker in no context.
    """
    agents = setup.task.agents
    if speaker not in agents or listener not in agents or speaker == listener:
        raise ConfigError(f"influence: expected two agents of {', '.join(agents)}, got {speaker} and {listener}")
    if candidates < 2 or replies < 1 or not setup.examples:
        raise ConfigError("influence: expected at least 2 candidates, 1 reply and 1 example")
    contexts = _contexts(setup, speaker)
    messages = _candidates(setup, contexts, speaker, candidates)
    games = [
        EpisodeRun(_until_reply(_resume(setup, context), context, listener), _key(setup, context, "reply", n), first)
        for context, options in zip(contexts, messages, strict=True)
        for first in options
        for n in range(replies)
    ]
    episodes = drive(games, setup.speak, setup.judge)
    if not any(episode.turns for episode in episodes):
        raise ConfigError(
            f"influence: {listener} never acts after {speaker}; play one after the other, or several rounds, or take "
            "examples that the first round does not end"
        )
    actions = map(_action, episodes)
    tables = [[[next(actions) for _ in range(replies)] for _ in range(candidates)] for _ in contexts]
    values = [mutual_information(table, alpha=alpha) for table in tables]
    copied = mutual_information([[str(k)] * replies for k in range(candidates)], alpha=alpha)
    return Influence(bootstrap(values, seed=setup.seed), tuple(values), math.log(candidates), copied)


def _contexts(setup: EvalSetup, speaker: AgentId) -> list[Point[Any]]:
    """The points at which the speaker is about to speak for the first time, one per example."""
    starts = [Point(example.id, setup.task.reset(example)) for example in setup.examples]
    games = [
        EpisodeRun(_until_asked(_resume(setup, start), start, speaker), _key(setup, start, "before"))
        for start in starts
    ]
    before = drive(games, setup.speak, setup.judge)
    return [replace(start, history=episode.turns) for start, episode in zip(starts, before, strict=True)]


def _candidates(
    setup: EvalSetup, contexts: Sequence[Point[Any]], speaker: AgentId, count: int
) -> list[list[dict[AgentId, Completion]]]:
    """For each context the candidate messages, each with what the others say at the same time."""
    wanted, asked = list[GenerationRequest](), list[Mapping[AgentId, Messages]]()
    for context in contexts:
        request = next(_resume(setup, context))
        assert isinstance(request, SpeakRequest)  # a context is where the speaker is asked
        asked.append(request.prompts)
        keys: list[tuple[AgentId, tuple[object, ...]]] = [(speaker, ("message", k)) for k in range(count)]
        keys += [(agent, ("beside", agent)) for agent in request.prompts if agent != speaker]
        wanted += [
            GenerationRequest(agent, request.prompts[agent], derive(*_key(setup, context, *key))) for agent, key in keys
        ]
    completions = iter(setup.speak(wanted))
    options = []
    for prompts in asked:
        messages = [next(completions) for _ in range(count)]
        beside = {agent: next(completions) for agent in prompts if agent != speaker}
        options.append([{speaker: message, **beside} for message in messages])
    return options


def _resume(setup: EvalSetup, point: Point[Any]) -> Play:
    return play(setup.task, setup.topology, point)


def _key(setup: EvalSetup, point: Point[Any], *parts: object) -> tuple[object, ...]:
    return ("influence", setup.seed, point.example, *parts)


def _until_asked(moves: Play, start: Point[Any], speaker: AgentId) -> Play:
    """Plays until an agent is asked for the first time, and gives the turns before that."""
    turns: tuple[Turn, ...] = ()
    request = next(moves)
    while isinstance(request, SpeakRequest) and speaker not in request.prompts:
        replies = yield request
        turns += tuple(Turn(agent, prompt, replies[agent]) for agent, prompt in request.prompts.items())
        request = moves.send(replies)
    if not isinstance(request, SpeakRequest):
        raise ConfigError(
            f"influence: {speaker} does not speak in the first round of {start.example}; name another agent"
        )
    return Episode(start, turns, ())


def _until_reply(moves: Play, start: Point[Any], listener: AgentId) -> Play:
    """Plays on from a message until the listener has acted upon it, and gives that turn alone."""
    request = next(moves)
    replies = yield request
    try:
        request = moves.send(replies)
        while not (isinstance(request, SpeakRequest) and listener in request.prompts):
            replies = yield request
            request = moves.send(replies)
    except StopIteration:
        return Episode(start, (), ())
    replies = yield request
    return Episode(start, (Turn(listener, request.prompts[listener], replies[listener], request.round),), ())


def _action(episode: Episode[Any]) -> str:
    """What the listener did; where the message ended the episode, that is its effect."""
    return episode.turns[0].completion.text if episode.turns else ENDED
