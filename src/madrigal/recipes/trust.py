"""What a file may not ask for in silence: own code, no sandbox around code of models, and sending anything away."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from madrigal.config import Experiment
from madrigal.tasks.catalog import TaskConfig, environment_name
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.discussion.debate import Debate
from madrigal.tasks.editing.task import Edit
from madrigal.tasks.elsewhere import Elsewhere
from madrigal.tasks.environments.pettingzoo import PettingZoo
from madrigal.tasks.office.task import Office
from madrigal.tasks.own import IN_MEMORY, CustomTask
from madrigal.tasks.project.task import Project
from madrigal.types import ConfigError

TRUST = "--trust"
SENDING = ("wandb", "trackio")  # trackers that may send what they are given to a server
# What is done with an experiment: training tracks it, and its engines play; who is asked speaks in this process.
Use = Literal["train", "play", "ask"]


@dataclass(frozen=True, slots=True)
class Permission:
    """Something that settings ask of the machine besides training.

    Attributes:
        text: what it is, to follow "asks to".
        flag: the setting behind it; whoever types it has asked for it.
    """

    text: str
    flag: str


def permissions(run: Experiment, use: Use = "train") -> Iterator[Permission]:
    """Everything that an experiment does to the machine besides training."""
    yield from _of_task(run.task)
    if run.tools.path:
        yield Permission(f"import and run the code of {run.tools.path}", "--tools.path")
    if run.tools.mcp:
        yield Permission(f"run {' and '.join(run.tools.mcp)}", "--tools.mcp")
    if use == "train" and (sending := [name for name in run.records.trackers if name in SENDING]):
        yield Permission(f"send settings, numbers and transcripts to {' and '.join(sending)}", "--records.trackers")
    for server in run.team.servers if use != "ask" else ():
        wish = f"send prompts, weights and the key in {server.key_variable} to {server.url}"
        yield Permission(wish, "--team.policy.engine.url")
    for setting, policy in run.team.outside.items():
        flag, remote = f"--{setting.replace('_', '-')}", policy.remote
        if remote.url:
            wish = f"send prompts and the key in {remote.key_variable} to {remote.url}"
            yield Permission(wish, f"{flag}.remote.url")
        elif not policy.script.startswith(f"{IN_MEMORY}:"):
            yield Permission(f"import and run the code of {policy.script}", f"{flag}.script")


def _of_task(config: TaskConfig) -> Iterator[Permission]:
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


def risks(run: Experiment, use: Use = "train", typed: Collection[str] = ()) -> str:
    """All permissions that are asked for, in one phrase, those left out whose flag was typed; "" where there is none.

    >>> risks(Experiment("divide", CustomTask("divide.py:task")))
    'import and run the code of divide.py:task'
    """
    return " and to ".join(one.text for one in permissions(run, use) if one.flag not in typed)


def check_trust(run: Experiment, where: str | Path, use: Use = "train", typed: Collection[str] = ()) -> None:
    """Refuses settings read from `where` that reach beyond training.

    Args:
        typed: flags of what was not asked for by the file alone: those on the command line.

    Raises:
        ConfigError: saying what would be done, and how to allow it.
    """
    if risk := risks(run, use, typed):
        raise ConfigError(f"{where} asks to {risk}; look at it first, and allow it with {TRUST}")


def of_its_task(run: Experiment, task: object) -> set[str]:
    """Flags of what the task in a file asks for, where another one was handed over and takes its place."""
    return set() if task is None else {one.flag for one in _of_task(run.task)}


def with_trust_flag(command: str, run: Experiment, use: Use = "train") -> str:
    """A command to show a user, with the flag that settings like these will need when they come from a file."""
    return f"{command} {TRUST}" if risks(run, use) else command


def resumed_by(folder: Path, run: Experiment) -> str:
    """The command that goes on with a run, to show a user; of a team that a program plays, the call in Python, too.

    >>> resumed_by(Path("runs/divide"), Experiment("divide", CustomTask("divide.py:task")))
    'madrigal train runs/divide --resume --trust'
    """
    if not isinstance(run.task, Elsewhere):
        return with_trust_flag(f"madrigal train {folder} --resume", run)
    again = with_trust_flag(f"madrigal gateway --experiment {folder} --resume", run)
    trust = ", trust=True" if risks(run) else ""
    return f"{again}, or madrigal.train_rollouts(rollout, examples, {str(folder)!r}, resume=True{trust})"
