"""The protocol of engines: token ids in, token ids and log-probs of the sampled distribution out.

An engine that holds copies of weights is handed the new ones before they are first to speak. Every hand-over and every
answer carries the version of the weights, so that older ones can neither come back nor answer by mistake.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from madrigal.settings import Sampling
from madrigal.types import Completion, EngineError

if TYPE_CHECKING:
    from madrigal.policies.local import LocalPolicy


class TooLongError(EngineError):
    """A prompt that leaves no room for the longest answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """One answer that is wanted of a policy.

    Attributes:
        policy: its name.
        prompt_ids: exactly what the model is given.
        seed: of this answer alone; equal requests get equal answers, to rounding.
        sampling: how tokens are drawn; greedy requests may stand among others.
        listener: told of new tokens while the answer is written, by engines that can (the local one), from a thread of
            theirs; says whether to go on. An answer that it ends holds the tokens up to there.
    """

    policy: str
    prompt_ids: tuple[int, ...]
    seed: int
    sampling: Sampling
    listener: Callable[[Sequence[int]], bool] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came.

    Attributes:
        token_ids: [T] up to and including the end token.
        logprobs: [T] in nats, under the distribution that was sampled.
        version: of the weights that spoke.
        seconds: from the call to the last token.
        retries: how often it was asked for again.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    version: int
    seconds: float
    retries: int = 0


class Engine(Protocol):
    """What answers requests of the policies that it serves.

    Attributes:
        copies: whether it holds copies of weights, which are handed over.
        remote: whether it works elsewhere, while others work here.
        tolerance: what is said of the mean difference of log-probs (`optimizer.mismatch_tolerance`).
    """

    copies: bool
    remote: bool
    tolerance: float | None

    @property
    def name(self) -> str:
        """What errors call it, as "vLLM" or "the server at http://127.0.0.1:8000"."""

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers in the order of the requests, whatever policies they ask."""

    def hand_over(self, policy: LocalPolicy) -> bool:
        """Gives the engine a policy's present weights, if it has others; says whether it had."""

    def close(self) -> None:
        """Ends what runs for it."""


class CopyingEngine(ABC):
    """An engine with weights of its own: copies, in the same process or elsewhere.

    Attributes:
        name, tolerance: see `Engine`.
        versions: which weights it holds, by policy.
    """

    copies, remote = True, False

    def __init__(self, name: str, tolerance: float | None = None) -> None:
        self.name, self.tolerance, self.versions = name, tolerance, dict[str, int]()

    @abstractmethod
    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """See `Engine`."""

    @abstractmethod
    def load(self, policy: LocalPolicy) -> None:
        """Makes a policy's present weights those that answer for it from now on."""

    @abstractmethod
    def close(self) -> None:
        """See `Engine`."""

    def hand_over(self, policy: LocalPolicy) -> bool:
        """See `Engine`.

        Raises:
            EngineError: if the engine holds newer ones, or they cannot be handed over.
        """
        held = self.versions.get(policy.name)
        if held == policy.version:
            return False
        if held is not None and policy.version < held:
            raise EngineError(
                f"policy {policy.name}: {self.name} holds version {held} of its weights and was handed version "
                f"{policy.version}; older weights do not come back"
            )
        self.load(policy)
        self.versions[policy.name] = policy.version
        return True


def completion_of(policy: LocalPolicy, request: Request, answer: Answer) -> Completion:
    """An answer with its text, which the policy's own tokenizer makes whatever the engine."""
    tokens = answer.token_ids
    # A single token is a whole answer, with no room to say that it ends.
    ended = bool(tokens) and (tokens[-1] in policy.ends or request.sampling.max_new_tokens == 1)
    finish: Literal["stop", "length"] = "stop" if ended else "length"
    text = policy.decode(tokens)
    return Completion(
        text=text,
        prompt_ids=request.prompt_ids,
        token_ids=tokens,
        logprobs=answer.logprobs,
        finish=finish,
        seconds=answer.seconds,
        version=answer.version,
        retries=answer.retries,
        pieces=policy.spell(list(tokens), text),
    )


def check_lengths(policies: Mapping[str, LocalPolicy], requests: Sequence[Request]) -> None:
    """Refuses prompts that leave no room for the longest answer.

    Raises:
        TooLongError: naming the policy, the lengths and what to do.
    """
    for request in requests:
        longest, limit = len(request.prompt_ids), request.sampling.max_new_tokens
        context = policies[request.policy].context
        if longest + limit > context:
            raise TooLongError(
                f"policy {request.policy}: a prompt of {longest} tokens and an answer of up to {limit} do not fit the "
                f"model's context of {context}; shorten the examples, lower sampling.max_new_tokens, or take a model "
                "with a longer context"
            )
