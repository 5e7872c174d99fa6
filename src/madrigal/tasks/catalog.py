"""The tasks there are: one table that the command line, experiments and scoring all read.

A new task is a file of its own and a line here, in `TASKS`; where its settings are of a new kind, also a name in
`TaskConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from madrigal.rollouts.task import Task
from madrigal.tasks.building.task import Build, BuildTask
from madrigal.tasks.chores.task import Chores, ChoresTask
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.coding.task import open_coding
from madrigal.tasks.consulting.task import Consult, ConsultTask
from madrigal.tasks.discussion.debate import Debate, open_debate
from madrigal.tasks.discussion.gsm8k import Gsm8k, gsm8k_task
from madrigal.tasks.editing.task import Edit, open_edit
from madrigal.tasks.elsewhere import Elsewhere, ElsewhereTask
from madrigal.tasks.environments.pettingzoo import PettingZoo, open_pettingzoo
from madrigal.tasks.environments.replay import Replayed
from madrigal.tasks.environments.textarena import TextArena, open_textarena
from madrigal.tasks.environments.verifiers import Verifiers, open_verifiers
from madrigal.tasks.games.kuhn import Kuhn
from madrigal.tasks.games.mixture import Games, games_task
from madrigal.tasks.games.negotiation import Negotiation
from madrigal.tasks.games.opponent import open_table
from madrigal.tasks.games.tictactoe import TicTacToe
from madrigal.tasks.guarded import Guarded
from madrigal.tasks.messages.relay import Relay, RelayTask
from madrigal.tasks.messages.taboo import Taboo, TabooTask
from madrigal.tasks.office.task import Office, open_office
from madrigal.tasks.own import CustomTask, load_own
from madrigal.tasks.project.task import Project, open_project
from madrigal.tasks.tools.ledger import Ledger, LedgerTask
from madrigal.tasks.writing.task import Arxiv, Tldr, arxiv_task, tldr_task
from madrigal.types import ConfigError

TaskConfig = (
    Tldr
    | Arxiv
    | Coding
    | Gsm8k
    | Debate
    | TicTacToe
    | Kuhn
    | Negotiation
    | Games
    | Office
    | Build
    | Relay
    | Taboo
    | Edit
    | Project
    | Consult
    | Ledger
    | Chores
    | PettingZoo
    | TextArena
    | Verifiers
    | CustomTask
    | Elsewhere
)
C = TypeVar("C")
Opener = Callable[[Any], AbstractContextManager[Task[Any]]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One task of the catalog.

    Attributes:
        what: the task in one line.
        config: the settings that it starts from.
        open: makes the task of any settings of that kind; leaving the context closes what the task owns.
        columns: what a row of data must have so that `madrigal score` can judge answers to it.
    """

    what: str
    config: TaskConfig
    open: Opener
    columns: tuple[str, ...] = ()


def _alone(make: Callable[[C], Task[Any]]) -> Callable[[C], AbstractContextManager[Task[Any]]]:
    """The opener of a task that owns nothing."""
    return lambda config: nullcontext(make(config))


def _environment(open_one: Callable[[C], Replayed]) -> Callable[[C], AbstractContextManager[Task[Any]]]:
    """The opener of an environment of another library, whose failures come as one line."""

    @contextmanager
    def opened(config: C) -> Iterator[Task[Any]]:
        task = open_one(config)
        try:
            yield Guarded(task)
        finally:
            task.close()

    return opened


PROBLEM = ("prompt", "entry_point", "test")
TASKS = {
    "tldr": Entry("two summaries of a post: concise and detailed", Tldr(), _alone(tldr_task)),
    "arxiv": Entry("two halves of an introduction: background and method", Arxiv(), _alone(arxiv_task)),
    "arxiv-later": Entry("the same, by the authors' later thresholds", Arxiv(variant="later"), _alone(arxiv_task)),
    "coding": Entry("helper and main function, embedded problems", Coding(), open_coding, PROBLEM),
    "humaneval": Entry("helper and main function, HumanEval", Coding("humaneval"), open_coding, PROBLEM),
    "coophumaneval": Entry("helper and main function, CoopHumanEval", Coding("coophumaneval"), open_coding, PROBLEM),
    "gsm8k": Entry("arithmetic word problems for several agents", Gsm8k(), _alone(gsm8k_task), ("question", "answer")),
    "debate": Entry("questions in rounds of debate, scored by answer", Debate(), open_debate, ("question", "answer")),
    "tictactoe": Entry("tic-tac-toe for two, zero-sum", TicTacToe(), _alone(open_table)),
    "kuhn": Entry("Kuhn poker for two, zero-sum", Kuhn(), _alone(open_table)),
    "negotiation": Entry("two traders of five resources, zero-sum", Negotiation(), _alone(open_table)),
    "games": Entry("these three games in turn", Games(), _alone(games_task)),
    "office": Entry("five roles at a board: summaries of posts, and functions", Office(), open_office),
    "build": Entry("letters on a grid, by builders with colors of their own", Build(), _alone(BuildTask)),
    "relay": Entry("a question, and facts that somebody else knows", Relay(), _alone(RelayTask)),
    "taboo": Entry("a clue without the forbidden words, and a guess", Taboo(), _alone(TabooTask)),
    "edit": Entry("a broken program, mended by operations instead of retyping", Edit(), open_edit),
    "project": Entry("a small program or site of several files, from a brief", Project(), open_project),
    "ledger": Entry("a price to look up and a sum to work out, with tools", Ledger(), _alone(LedgerTask)),
    "consult": Entry("questions, specialists, and who is to be asked", Consult(), _alone(ConsultTask)),
    "chores": Entry("a list of jobs, and equals who divide it unasked", Chores(), _alone(ChoresTask)),
}
# By a name of theirs: pettingzoo:classic/tictactoe_v3.
ENVIRONMENTS = {
    "pettingzoo": Entry(
        "an environment of PettingZoo, parallel or AEC, told and answered by text",
        PettingZoo("classic/tictactoe_v3"),
        _environment(open_pettingzoo),
    ),
    "textarena": Entry("a game of TextArena", TextArena("SimpleTak-v0"), _environment(open_textarena)),
    "verifiers": Entry(
        "an installed environment of verifiers, of one turn or several",
        Verifiers("gsm8k"),
        _environment(open_verifiers),
    ),
}
OWN = Entry("a task of your own, by file and name", CustomTask("file.py:name"), _alone(load_own))
ELSEWHERE = Entry("a team that a program of your own plays", Elsewhere(), _alone(ElsewhereTask))
OPENERS = {type(entry.config): entry.open for entry in (*TASKS.values(), *ENVIRONMENTS.values(), OWN, ELSEWHERE)}


def environment_named(name: str) -> PettingZoo | TextArena | Verifiers | None:
    """The settings of another library's environment by name, "textarena:SimpleTak-v0"; None for all other names.

    Raises:
        ConfigError: if nothing follows the library.
    """
    library, colon, environment = name.partition(":")
    if not colon or library not in ENVIRONMENTS:
        return None
    config = ENVIRONMENTS[library].config
    assert isinstance(config, PettingZoo | TextArena | Verifiers)
    if not environment:
        raise ConfigError(f"name an environment of {library}, too: {library}:{config.environment}")
    return replace(config, environment=environment)


def environment_name(config: TaskConfig) -> str:
    """The name by which an environment of another library is asked for; "" for all other tasks."""
    if not isinstance(config, PettingZoo | TextArena | Verifiers):
        return ""
    return f"{type(config).__name__.lower()}:{config.environment}"


def open_task(config: TaskConfig) -> AbstractContextManager[Task[Any]]:
    """Makes the task that settings describe; leaving the context closes what it owns (a sandbox).

    >>> with open_task(Gsm8k(agents=("ada", "bob"))) as task:
    ...     task.agents
    ('ada', 'bob')
    """
    return OPENERS[type(config)](config)
