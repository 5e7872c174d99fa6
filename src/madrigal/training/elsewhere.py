"""What a run needs whose team a program plays: what cannot be trained so is refused, and prompts are measured."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from madrigal.algorithms.group_relative import GroupRelative
from madrigal.config import Experiment
from madrigal.policies.chat import ChatFormat
from madrigal.policies.engines.engine import TooLongError
from madrigal.policies.local import load_tokenizer
from madrigal.policies.sizes import model_context
from madrigal.rollouts.sessions import Session
from madrigal.rollouts.topology import Parallel
from madrigal.runs.signals import Stop, StoppedError
from madrigal.settings import PartnerConfig, PolicyConfig, RewardWeights
from madrigal.tasks.elsewhere import NOBODY, Elsewhere, ElsewhereTask, Rollout
from madrigal.tasks.tools.config import ToolsConfig
from madrigal.types import AgentId, ConfigError, Messages

Address = AbstractContextManager[str]
INSTEAD = "take magrpo, reinforce, rloo, remax, independent_grpo, multi_turn_grpo, matpo or dr_mas"


def check_elsewhere(run: Experiment) -> None:
    """Refuses what needs more of a play than its calls and its reward.

    Raises:
        ConfigError: saying why, and what to do.
    """
    if not isinstance(run.task, Elsewhere):
        return
    name, branching, needs = run.algorithm.name, run.algorithm.branching, run.algorithm.needs
    played = "a session is played by a program, once and from its start"
    if branching.at != "start" or branching.crossed or branching.solo:
        raise ConfigError(f"algorithm {name} plays on from the middle of an episode, and {played}; {INSTEAD}")
    if needs.critic or not isinstance(run.algorithm, GroupRelative):
        raise ConfigError(f"algorithm {name} looks into the rounds of a task, and a session has none; {INSTEAD}")
    if needs.counterfactual_rewards:
        raise ConfigError(f"algorithm {name} judges every answer again without one agent, and {played}; {INSTEAD}")
    unlike: Mapping[str, tuple[bool, str]] = {
        "reward": (run.reward != RewardWeights(), "the program says what a session is worth"),
        "topology": (not isinstance(run.topology, Parallel), "the program says who speaks when"),
        "tools": (run.tools != ToolsConfig(), "tools are the program's own"),
        "warm": (run.warm.wanted, "a warm start plays known prompts, and those are the program's own"),
        "team.partners": (run.team.partners != PartnerConfig(), "sessions are not played with older selves"),
        "cluster": (bool(run.cluster.address), "sessions are answered in the process that they ask"),
        "reworded": (bool(run.reworded), "prompts are the program's own"),
        "roles.names": (bool(run.roles.names), "prompts are the program's own"),
    }
    for setting, (wrong, why) in unlike.items():
        if wrong:
            raise ConfigError(f"{setting}: of no use with a team that a program plays: {why}; leave it as it comes")


def check_player(run: Experiment, task: object) -> None:
    """Refuses a team that a program plays where there is none, before anything is loaded.

    Args:
        task: of the caller, in which a program may play.

    Raises:
        ConfigError: saying who can.
    """
    if task is None and isinstance(run.task, Elsewhere):
        raise ConfigError(NOBODY)


def prompt_check(run: Experiment, agents: tuple[AgentId, ...]) -> Callable[[AgentId, Messages], None]:
    """Refuses a prompt that leaves no room for the longest answer, before it gets into a batch with others.

    Tokenizers are loaded, configurations read, no weights.

    Raises:
        ConfigError, EngineError: if there is no such model.
    """
    room, shared = run.sampling.max_new_tokens, run.team.shared
    configs = {agent: run.team.policy if shared else run.team.seats.get(agent, run.team.policy) for agent in agents}
    known: dict[tuple[str, str], tuple[ChatFormat, int]] = {}

    def measured(config: PolicyConfig) -> tuple[ChatFormat, int]:
        key = config.model, config.pad_token
        if key not in known:
            tokenizer = load_tokenizer(*key)
            known[key] = ChatFormat(tokenizer, (tokenizer.eos_token_id,)), model_context(config.model)
        return known[key]

    here = {agent: measured(config) for agent, config in configs.items() if not config.outside}

    def check(agent: AgentId, prompt: Messages) -> None:
        if agent not in here:
            return
        chat, context = here[agent]
        length = len(chat.encode(prompt, chat=run.team.chat_template))
        if length + room > context:
            raise TooLongError(
                f"agent {agent}: its prompt of {length} tokens and an answer of up to {room} do not fit the model's "
                f"context of {context}; shorten it, or lower sampling.max_new_tokens"
            )

    return check


class Losses:
    """Tells of sessions that were lost, and writes each down in the run folder: no session goes without a word.

    Attributes:
        folder: of the run, where there is one.
        tell: shows a line.
        count: how many there were.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.tell: Callable[[str], None] = _on_stderr
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self, session: Session, why: str) -> None:
        row = {"example": session.example.id, "evaluating": session.evaluating, "calls": len(session.calls), "why": why}
        with self._lock:
            self.count += 1
            if self.folder:
                with (self.folder / "lost.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            self.tell(f"note: session {self.count} lost, of example {session.example.id}: {why}")


@contextmanager
def played_elsewhere(
    run: Experiment,
    rollout: Rollout | None,
    losses: Losses,
    serve: Callable[[ElsewhereTask], Address] | None = None,
    stop: Stop = lambda: 0,
) -> Iterator[ElsewhereTask]:
    """The task of a team that a program plays, open as long as the context lasts.

    Args:
        rollout: plays a session; None where programs take sessions themselves.
        serve: makes a server for programs that ask by HTTP: a context with its address.
        stop: nonzero when the run is to stop: it does not wait for programs then.

    Raises:
        ConfigError, EngineError: if a model's tokenizer cannot be read.
    """
    assert isinstance(run.task, Elsewhere)
    with ExitStack() as servers:
        started, starting = list[str](), threading.Lock()

        def address() -> str:
            with starting:
                if not started:
                    if serve is None:
                        raise ConfigError("base_url: nobody listens here")
                    started.append(servers.enter_context(serve(task)))
                return started[0]

        def stopped() -> None:
            if stop():
                raise StoppedError

        check = prompt_check(run, run.task.agents)
        task = ElsewhereTask(run.task, rollout, True, check, address, losses, stopped)
        try:
            yield task
        finally:
            task.desk.close("the run is over")


def _on_stderr(line: str) -> None:
    print(f"madrigal: {line}", file=sys.stderr)
