"""What a file may not ask for in silence: own code, no sandbox around code of models, and sending anything away."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from madrigal.settings import EngineConfig
from madrigal.tasks.catalog import TaskConfig, environment_name
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.discussion.debate import Debate
from madrigal.tasks.editing.task import Edit
from madrigal.tasks.environments.pettingzoo import PettingZoo
from madrigal.tasks.office.task import Office
from madrigal.tasks.own import IN_MEMORY, CustomTask
from madrigal.tasks.project.task import Project
from madrigal.types import ConfigError

TRUST = "--trust"
SENDING = ("wandb", "trackio")  # trackers that may send what they are given to a server


@dataclass(frozen=True, slots=True)
class Permission:
    """Something that settings ask of the machine besides training.

    Attributes:
        text: what it is, to follow "asks to".
        flag: the setting behind it; whoever types it has asked for it.
    """

    text: str
    flag: str


def permissions(
    config: TaskConfig, trackers: Sequence[str] = (), servers: Sequence[EngineConfig] = ()
) -> Iterator[Permission]:
    """Everything that a task of these settings, these trackers and engines do to the machine besides training."""
    if isinstance(config, CustomTask) and not config.path.startswith(f"{IN_MEMORY}:"):
        yield Permission(f"import and run the code of {config.path}", "--task.path")
    if name := environment_name(config):
        yield Permission(f"import and run the code of {name}", "--task.environment")
    if isinstance(config, PettingZoo) and config.observe:
        yield Permission(f"import and run the code of {config.observe}", "--task.observe")
    if isinstance(config, Coding | Office | Edit | Project) and config.unconfined:
        yield Permission("switch off the sandbox around code that models write (task.unconfined)", "--task.unconfined")
    if isinstance(config, Coding) and config.feedback == "expert_edits":
        place = config.expert.base_url or "the default endpoint of OpenAI's protocol"
        key = config.expert.key_variable
        yield Permission(f"send the key in {key} and what the team writes to {place}", "--task.expert.base-url")
    if isinstance(config, Debate) and config.verifier.kind == "http":
        yield Permission(f"send questions and answers to {config.verifier.url}", "--task.verifier.url")
    if sending := [name for name in trackers if name in SENDING]:
        yield Permission(f"send settings, numbers and transcripts to {' and '.join(sending)}", "--records.trackers")
    for server in servers:
        wish = f"send prompts, weights and the key in {server.key_variable} to {server.url}"
        yield Permission(wish, "--team.policy.engine.url")


def risks(
    config: TaskConfig,
    trackers: Sequence[str] = (),
    typed: Collection[str] = (),
    servers: Sequence[EngineConfig] = (),
) -> str:
    """All permissions that are asked for, in one phrase, those left out whose flag was typed; "" where there is none.

    >>> risks(CustomTask("divide.py:task"))
    'import and run the code of divide.py:task'
    """
    return " and to ".join(one.text for one in permissions(config, trackers, servers) if one.flag not in typed)


def check_trust(
    config: TaskConfig,
    where: str | Path,
    trackers: Sequence[str] = (),
    typed: Collection[str] = (),
    servers: Sequence[EngineConfig] = (),
) -> None:
    """Refuses settings read from `where` that reach beyond training.

    Args:
        trackers: of the experiment, where its numbers will be tracked.
        servers: of the experiment, where its policies will speak by them.
        typed: flags on the command line: what they set was not asked for by the file alone.

    Raises:
        ConfigError: saying what would be done, and how to allow it.
    """
    if risk := risks(config, trackers, typed, servers):
        raise ConfigError(f"{where} asks to {risk}; look at it first, and allow it with {TRUST}")


def with_trust_flag(
    command: str, config: TaskConfig, trackers: Sequence[str] = (), servers: Sequence[EngineConfig] = ()
) -> str:
    """A command to show a user, with the flag that settings like these will need when they come from a file."""
    return f"{command} {TRUST}" if risks(config, trackers, servers=servers) else command
