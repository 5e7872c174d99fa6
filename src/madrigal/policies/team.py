"""A team: which policy sits in which seat and round, and how a request of many agents becomes one call per policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

from madrigal.policies.engines.asking import ask
from madrigal.policies.engines.engine import Engine, Request, completion_of
from madrigal.policies.engines.local import LocalEngine
from madrigal.policies.generate import SAMPLING_TOKENS
from madrigal.policies.local import LocalPolicy
from madrigal.policies.outside import OutsidePolicy
from madrigal.policies.token_pieces import GrowingText
from madrigal.rollouts.play import Generate, GenerationRequest, Listener
from madrigal.settings import Sampling
from madrigal.types import AgentId, Completion, ConfigError, EngineError, Messages, Turn

TEAM = "team.json"

Seat: TypeAlias = LocalPolicy | OutsidePolicy


@dataclass(frozen=True, slots=True)
class Team:
    """Seats and the policies in them.

    Attributes:
        seats: one policy per agent; one that has no weights here (`policies.outside`) speaks and does not learn.
        shared: whether several seats are meant to hold one trainable policy.
        later: who sits there in the second round, in the third, and so on; the last also in all rounds after it. Empty
            where everybody keeps its seat.
    """

    seats: Mapping[AgentId, Seat]
    shared: bool = False
    later: tuple[Mapping[AgentId, Seat], ...] = ()

    def __post_init__(self) -> None:
        seated = [(agent, policy) for seats in (self.seats, *self.later) for agent, policy in seats.items()]
        named = {policy.name: policy for _, policy in seated}
        if any(named[policy.name] is not policy for _, policy in seated):
            raise ConfigError(f"team: every policy needs a name of its own, got {', '.join(sorted(named))}")
        if any(seats.keys() != self.seats.keys() for seats in self.later):
            raise ConfigError(f"team: expected a policy for each of {', '.join(self.seats)} in every round")
        if not self.shared:
            _check_apart([(agent, policy) for agent, policy in seated if isinstance(policy, LocalPolicy)])

    @property
    def seated(self) -> tuple[Seat, ...]:
        """The distinct policies, in seat order, those of earlier rounds first."""
        seated = [policy for seats in (self.seats, *self.later) for policy in seats.values()]
        return tuple({policy.name: policy for policy in seated}.values())

    @property
    def policies(self) -> tuple[LocalPolicy, ...]:
        """Those of them that are models of this process, to be asked by token ids."""
        return tuple(policy for policy in self.seated if isinstance(policy, LocalPolicy))

    @property
    def outside(self) -> tuple[OutsidePolicy, ...]:
        """Those of them that are asked in messages."""
        return tuple(policy for policy in self.seated if isinstance(policy, OutsidePolicy))

    @property
    def trainable(self) -> tuple[LocalPolicy, ...]:
        return tuple(policy for policy in self.policies if policy.trainable)

    def policy_of(self, agent: AgentId, round: int = 0) -> Seat:
        """Who speaks for an agent in a round."""
        return (self.seats, *self.later)[min(round, len(self.later))][agent]

    def spoke(self, policy: LocalPolicy, turn: Turn) -> bool:
        """Whether a turn is a policy's own, to learn from."""
        return self.policy_of(turn.agent, turn.round) is policy

    def speaker(
        self,
        sampling: Sampling,
        token_budget: int = SAMPLING_TOKENS,
        engines: Mapping[str, Engine] = {},
    ) -> Generate:
        """Answers any mix of agents' requests with one call per engine, which batches what one policy is asked.

        Whoever is asked in messages answers at the same time.

        Args:
            token_budget: of one batch that a policy answers in this process; what is more goes in several.
            engines: of the policies that do not answer in this process, by name; several may share one.
        """
        ours = self._by_token_ids(sampling, token_budget, engines)
        others = {policy.name: policy.speaker(sampling) for policy in self.outside}
        speaker_of = dict.fromkeys((policy.name for policy in self.policies), ours) | others
        return apart(lambda request: speaker_of[self.policy_of(request.agent, request.round).name])

    def _by_token_ids(self, sampling: Sampling, token_budget: int, engines: Mapping[str, Engine]) -> Generate:
        """Answers for the policies that are models of this process."""
        policies = {policy.name: policy for policy in self.policies}
        local = LocalEngine(policies, token_budget)

        engine_of: dict[str, Engine] = {name: engines.get(name, local) for name in policies}

        def speak(requests: Sequence[GenerationRequest]) -> list[Completion]:
            encoded: dict[tuple[str, Messages], tuple[int, ...]] = {}
            wanted = []
            for request in requests:
                policy = policies[self.policy_of(request.agent, request.round).name]
                key = policy.name, request.prompt
                encoded[key] = encoded[key] if key in encoded else policy.encode(request.prompt)
                drawn = request.sampling or sampling
                drawn = replace(drawn, greedy=drawn.greedy or request.greedy)
                listener = request.listener and _by_words(policy, request.listener)
                wanted.append(Request(policy.name, encoded[key], request.seed, drawn, listener))
            answers = ask(wanted, policies, engine_of)
            return [completion_of(policies[one.policy], one, each) for one, each in zip(wanted, answers, strict=True)]

        return speak

    def save(self, folder: Path) -> None:
        """Writes each agent's policies to folders of their own, and who sits where to team.json."""
        places: dict[tuple[AgentId, str], str] = {}
        written = []
        for index, seats in enumerate((self.seats, *self.later)):
            for agent, policy in seats.items():
                if (agent, policy.name) not in places:
                    places[agent, policy.name] = folder_of(agent, index)
                    policy.save(folder / folder_of(agent, index))
            written.append({a: {"policy": p.name, "folder": places[a, p.name]} for a, p in seats.items()})
        record = {"seats": written[0], "shared": self.shared, **({"later": written[1:]} if self.later else {})}
        (folder / TEAM).write_text(json.dumps(record, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the weights of a seat of a saved team are: in a folder of it, or else they are those of a base model."""

    folder: str = ""
    base: str = ""


def places_of(folder: Path) -> dict[str, Place]:
    """Where a saved team has its policies, by what `folder_of` calls them; {} where no team.json says so.

    Raises:
        EngineError: if team.json is there and cannot be read.
    """
    file = folder / TEAM
    if not file.is_file():
        return {}
    try:
        record = json.loads(file.read_bytes())
        rounds = [record["seats"], *record.get("later", [])]
        named = {folder_of(agent, n): seat for n, seats in enumerate(rounds) for agent, seat in seats.items()}
        places = {name: Place(str(seat.get("folder", "")), str(seat.get("base", ""))) for name, seat in named.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(f"team {folder}: expected a {TEAM} that says who sits where; save the team anew") from error
    for name, place in places.items():
        inside = place.folder.strip(".") and Path(place.folder).name == place.folder
        if bool(place.base) == bool(inside) or (place.folder and not inside):
            raise EngineError(f"team {folder}: expected {name} to have a folder in it or a base model, got {place}")
    return places


def _by_words(policy: LocalPolicy, listener: Listener) -> Callable[[Sequence[int]], bool]:
    """A listener to a policy's tokens, of one that listens to its words."""
    text = GrowingText(policy.decode)
    return lambda token_ids: listener(text.add(token_ids))


def apart(speaker_of: Callable[[GenerationRequest], Generate]) -> Generate:
    """A speaker that asks several, each once and all at the same time; the first of them in this thread."""

    def speak(requests: Sequence[GenerationRequest]) -> list[Completion]:
        if not requests:
            return []
        shares: dict[Generate, list[int]] = {}
        for place, request in enumerate(requests):
            shares.setdefault(speaker_of(request), []).append(place)
        (first, own), *others = shares.items()
        with ThreadPoolExecutor(max(1, len(others))) as pool:
            coming = [(places, pool.submit(one, [requests[n] for n in places])) for one, places in others]
            answered = dict(zip(own, first([requests[n] for n in own]), strict=True))
            for places, future in coming:
                answered |= zip(places, future.result(), strict=True)
        return [answered[n] for n in range(len(requests))]

    return speak


def folder_of(agent: AgentId, round: int) -> str:
    """Where a saved team has the policy that speaks for an agent from a round on; the name of such a policy, too.

    >>> folder_of("ann", 0), folder_of("ann", 1)
    ('ann', 'ann_round2')
    """
    return f"{agent}_round{round + 1}" if round else agent


def _check_apart(seated: Sequence[tuple[AgentId, LocalPolicy]]) -> None:
    """Refuses weights that would learn as two agents at once, or as two policies."""
    for (before, other), (agent, policy) in combinations(seated, 2):
        same = policy.model is other.model and policy.adapter == other.adapter
        if same and (before, other) != (agent, policy) and (policy.trainable or other.trainable):
            raise ConfigError(
                f"team: the seats {before} and {agent} hold the same trainable model; give each its own, or "
                "say shared=True if they are meant to learn as one"
            )
