"""The shortest way to an own task: agents, examples, prompts, and one reward function or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from madrigal.rollouts.task.contract import answers_given, explain, plain_number
from madrigal.rollouts.task.protocol import Rewards
from madrigal.types import AgentId, Example, Message, Messages, RewardError, Split, Step, TaskError, Turn

# A number, one for each agent, or either of them with parts to log.
Worth = float | Mapping[AgentId, float] | tuple[float | Mapping[AgentId, float], Mapping[str, float]]
Reward = Callable[[Example, Mapping[AgentId, str]], Worth]
Weighted = tuple[float, Reward]
Prompt = Callable[[Example, AgentId], str | Sequence[Message | Mapping[str, str]]]
Quote = Callable[[Turn, AgentId], str]
ROLES = ("system", "user", "assistant")


def quoted(turn: Turn, listener: AgentId) -> str:
    """How a listener is told what a teammate said, or what it said itself earlier in the round."""
    return f"{turn.agent} said: {turn.completion.text}"


def said_lines(heard: Sequence[Turn], listener: AgentId) -> list[str]:
    """The same for all that is heard, a line each; a listener's own words are marked as such."""
    return [f"{'You' if turn.agent == listener else turn.agent} said: {turn.completion.text}" for turn in heard]


@dataclass(frozen=True)
class SingleRound:
    """The shortest way to an own task: agents, examples, prompts and a reward; every episode is one round.

        >>> task = SingleRound(
        ...     name="greet",
        ...     agents=("polite", "brief"),
        ...     train=(Example("ada", {"name": "Ada"}),),
        ...     test=(Example("bob", {"name": "Bob"}),),
        ...     prompt=lambda example, agent: f"Be {agent}. Greet {example.data['name']}.",
        ...     reward=lambda example, said: float(example.data["name"] in said["polite"]),
        ... )
        >>> task.step(task.reset(task.test[0]), {"polite": "Dear Bob", "brief": "Hi"}).rewards
        {'polite': 1.0, 'brief': 1.0}

    Attributes:
        prompt: what one agent is shown of an example: a text, or chat messages (`Message`, or mappings with role and
            content), a system message among them.
        reward: what one joint action is worth: a function of the example and the answers by agent that returns a
            finite number, at most `best_return`, or a pair of it and a mapping of parts to log. Several functions, each
            logged by its name, are added up: a list of functions or pairs (weight, function), or a mapping from names
            to either.
        rewards: "joint" for one number that all agents earn; with "own" or "zero-sum" reward functions return a mapping
            with a number for each agent.
        quote: how a listener is told an answer heard in this round, given the turn and the listener; "" hides it.
        validation: examples to choose by (`evaluation.keep`); without any they are taken from the end of `train`.
        answering: the agents whose words are the answer of a team that is asked; () is all of them.
    """

    name: str
    agents: tuple[AgentId, ...]
    train: Sequence[Example]
    test: Sequence[Example]
    prompt: Prompt
    reward: Reward | Sequence[Reward | Weighted] | Mapping[str, Reward | Weighted]
    best_return: float = 1.0
    rewards: Rewards = "joint"
    quote: Quote = quoted
    validation: Sequence[Example] = ()
    answering: tuple[AgentId, ...] = ()
    horizon: int = field(default=1, init=False)

    def examples(self, split: Split) -> Sequence[Example]:
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def reset(self, example: Example) -> Example:
        return example

    def acting(self, state: Example) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Example, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        messages = _messages(self.prompt(state, agent))
        quotes = [text for turn in heard if (text := self.quote(turn, agent))]
        if not quotes:
            return messages
        last = messages[-1].content if messages and messages[-1].role == "user" else ""
        before = messages[:-1] if last else messages
        return (*before, Message("user", "\n".join([last, *quotes] if last else quotes)))

    def step(self, state: Example, actions: Mapping[AgentId, str]) -> Step[Example]:
        functions = _functions(self.reward)
        rewards, parts = dict.fromkeys(self.agents, 0.0), dict[str, float]()
        for name, (weight, function) in functions.items():
            worth, logged = _call(function, state, actions, self.agents, self.rewards)
            for agent in self.agents:
                rewards[agent] += weight * worth[agent]
            if len(functions) > 1:
                parts[name] = sum(worth.values()) / len(worth)
                logged = {f"{name}/{part}": value for part, value in logged.items()}
            parts |= logged
        mean = sum(rewards.values()) / len(rewards) if self.rewards != "joint" else rewards[self.agents[0]]
        return Step(state, rewards, ending="horizon", metrics={"reward": mean} | parts)


def _messages(prompt: object) -> Messages:
    """A prompt as chat messages; a text is what the user says.

    Raises:
        TaskError: if it is neither a text nor messages.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if isinstance(prompt, Message):
        return (prompt,)
    if isinstance(prompt, Sequence) and prompt and all(map(_is_message, prompt)):
        return tuple(one if isinstance(one, Message) else Message(one["role"], one["content"]) for one in prompt)
    raise TaskError(
        f"prompt: expected a text, or messages with a role ({', '.join(ROLES)}) and a text as content, "
        f"got {prompt!r:.80}"
    )


def _is_message(one: Any) -> bool:
    if isinstance(one, Message):
        return True
    return isinstance(one, Mapping) and one.get("role") in ROLES and isinstance(one.get("content"), str)


def _functions(reward: Any) -> dict[str, Weighted]:
    """The reward functions by name, each with its weight."""
    if callable(reward):
        return {_name(reward): (1.0, reward)}
    pairs = list(reward.items()) if isinstance(reward, Mapping) else [(None, pair) for pair in reward]
    named = [(name, pair if isinstance(pair, Sequence) else (1.0, pair)) for name, pair in pairs]
    if not named or not all(
        len(pair) == 2 and plain_number(pair[0]) is not None and callable(pair[1]) for _, pair in named
    ):
        raise RewardError(
            "reward: expected a function, pairs (weight, function), or a mapping from names to functions or pairs, "
            f"got {reward!r:.200}"
        )
    names = [name or _name(pair[1]) for name, pair in named]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise RewardError(
            f"reward: two functions are called {twice[0]}; give a mapping from names to (weight, function)"
        )
    return {name: (float(weight), function) for name, (_, (weight, function)) in zip(names, named, strict=True)}


def _name(function: Reward) -> str:
    return getattr(function, "__name__", type(function).__name__)


def parted(value: Any) -> tuple[Any, Any]:
    """What a value of the form `Worth` says is earned, and the parts to log."""
    return value if isinstance(value, tuple) and len(value) == 2 else (value, {})


def numbers_of(worth: Any, agents: Sequence[AgentId], kind: Rewards) -> dict[AgentId, float] | None:
    """The finite number that each agent earns; None where there is not one for each of them.

    >>> numbers_of(1, ("ann", "bob"), "joint"), numbers_of({"ann": 1}, ("ann", "bob"), "own")
    ({'ann': 1.0, 'bob': 1.0}, None)
    """
    given = worth if kind != "joint" and isinstance(worth, Mapping) else dict.fromkeys(agents, worth)
    numbers = {agent: number for agent in agents if (number := plain_number(given.get(agent))) is not None}
    return numbers if len(numbers) == len(agents) >= len(given) else None


def _call(
    reward: Reward, example: Example, actions: Mapping[AgentId, str], agents: Sequence[AgentId], kind: Rewards
) -> tuple[dict[AgentId, float], Mapping[str, float]]:
    """What a user's reward function says of one joint action: a number for each agent, and parts to log.

    Raises:
        RewardError: if the function raises, or returns anything but finite numbers.
    """
    name = getattr(reward, "__qualname__", repr(reward))
    try:
        value: Any = reward(example, actions)
    except (Exception, SystemExit) as error:  # nobody may end a run without a word
        raise RewardError(
            f"the reward function {name} raised {explain(error)} on example {example.id}; it must return one finite "
            f"number for every joint answer{answers_given(actions)}"
        ) from error
    worth, parts = parted(value)
    numbers = numbers_of(worth, agents, kind)
    if numbers is None or not isinstance(parts, Mapping):
        wanted = "one finite number" if kind == "joint" else f"a finite number for each of {', '.join(agents)}"
        own = '; for a reward of its own for each agent set rewards="own"' if isinstance(worth, Mapping) else ""
        raise RewardError(
            f"the reward function {name} must return {wanted}, got {value!r:.200} ({type(value).__name__}) on example "
            f"{example.id}, or it and a mapping of parts to log{own if kind == 'joint' else ''}{answers_given(actions)}"
        )
    return numbers, parts
