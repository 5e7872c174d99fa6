"""Mending a program together, as a task: agents change it by operations instead of retyping it, turn by turn.

An example (`faults`): a program of two functions, what each is asked to do, tests of both, and something wrong or
missing in each agent's part. In each turn every agent writes operations ("rename sift aux"); they take effect together,
and what contradicts each other does not (`apply`). Between turns agents are told what of theirs was refused, conflicts,
what an editor underlines (`diagnose`), and tests. A turn earns what it added to the worth of the program, less its
conflicts, so that the return is what the program is worth in the end, less all conflicts:

    mended = (tests passed - passed at first) / (tests - passed at first)
    excess = lines changed beyond those of the known mend / lines at first, from 0 to 1
    worth  = mended - size * excess            r_t = worth after - worth before - conflict * conflicts

An untouched program earns 0, the known mend 1, and a program that passes less than at first below 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from madrigal.rollouts.task import joint, said_lines
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.tasks.coding.config import check_limits
from madrigal.tasks.coding.feedback import failure
from madrigal.tasks.coding.pieces import pieces
from madrigal.tasks.coding.reward import Judge
from madrigal.tasks.coding.score import Judged
from madrigal.tasks.coding.task import sandbox_for
from madrigal.tasks.editing.apply import LONGEST, Applied, apply, counted, num_changed, without_dead
from madrigal.tasks.editing.diagnose import diagnose
from madrigal.tasks.editing.faults import HELPER, IMPORT, MAIN, examples
from madrigal.tasks.editing.operations import Said, read, retyped
from madrigal.tasks.editing.work import Work, judged, program_of, work_of
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, Messages, Split, Step, Turn

EDITOR = "editor"
GROWTH, ROOM = 2, 400  # a program may become so many times as long, and so many characters: prompts have to fit
TOLD = 3  # lines of each kind that agents are told
CLIP = 120  # characters of such a line


@dataclass(frozen=True, slots=True)
class Editing:
    """The state.

    Attributes:
        worth: of the program, in the reward's terms.
        applied: what came of the last turn's operations.
        unread: lines of each agent's last answer that were no operations.
        tests: what came of the tests; empty before the first turn.
        counts: of the episode so far: operations that were applied and refused, conflicts.
        round: turns that were taken.
    """

    work: Work
    program: str
    worth: float = 0.0
    applied: Applied | None = None
    unread: Mapping[AgentId, tuple[str, ...]] = field(default_factory=dict)
    tests: tuple[Judged, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    round: int = 0


@dataclass(frozen=True, slots=True)
class Edit:
    """A helper and a main agent mend a program of two functions.

    Attributes:
        turns: the horizon.
        operations: that each agent may apply in a turn.
        retype: agents write functions anew instead of operations; what nobody calls any more then goes by itself.
        size: weight of the change's size.
        conflict: cost of a conflict.
        alone: one agent looks after both functions, with the operations of two.
        program_seconds, memory_mb: what one program may use in the sandbox.
        unconfined: run model-written code even where the machine cannot confine it.
    """

    turns: int = 2
    operations: int = 3
    retype: bool = False
    size: float = 0.2
    conflict: float = 0.1
    alone: bool = False
    program_seconds: float = 2.0
    memory_mb: int = 512
    unconfined: bool = False

    def __post_init__(self) -> None:
        for name, number in (("turns", self.turns), ("operations", self.operations)):
            if not 1 <= number <= 8:
                raise ConfigError(f"task.{name}: expected 1 to 8, got {number}")
        for name, weight in (("size", self.size), ("conflict", self.conflict)):
            if not 0 <= weight < math.inf:
                raise ConfigError(f"task.{name}: expected 0 or more, got {weight}")
        check_limits(self.memory_mb, program_seconds=self.program_seconds)


@dataclass(frozen=True)
class EditTask:
    """The task of such settings.

    Attributes:
        judge: runs tests; the sandbox.
    """

    config: Edit
    judge: Judge
    name: str = "edit"
    best_return: float = 1.0

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return (EDITOR,) if self.config.alone else (HELPER, MAIN)

    @property
    def horizon(self) -> int:
        return self.config.turns

    def examples(self, split: Split) -> Sequence[Example]:
        return examples(split)

    def reset(self, example: Example) -> Editing:
        work = work_of(example)
        return Editing(work, work.program)

    def acting(self, state: Editing) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Editing, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        asked = [f"{function}: {what}" for function, what in state.work.asked.items()]
        lines = [*asked, "", state.program, "", *self._told(state, agent), *said_lines(heard, agent)]
        return (Message("user", "\n".join([*lines, *self._how(state, agent)])),)

    def _told(self, state: Editing, agent: AgentId) -> list[str]:
        """What an editor would show: the fate of the last operations, what is underlined, and the tests."""
        lines = [f"not read: {line}" for line in state.unread.get(agent, ())[:TOLD]]
        if state.applied:
            lines += [f"not applied: {line}" for line in state.applied.refused[agent][:TOLD]]
            lines += [f"conflict: {pair}" for pair in state.applied.conflicts[:TOLD]]
        lines += map(str, diagnose(state.program, state.work.signatures)[:TOLD])
        if state.tests:
            failed = [test for test in state.tests if test.outcome != "passed"]
            lines.append(f"tests: {len(state.tests) - len(failed)} of {len(state.tests)} passed")
            lines += [f"failed: {failure(test)}" for test in failed[:1]]
        return [" ".join(line.split())[:CLIP] for line in lines]

    def _how(self, state: Editing, agent: AgentId) -> list[str]:
        names = list(state.work.signatures)
        if self.config.alone:
            yours = f"You look after {' and '.join(names)}."
        else:
            own, other = names if agent == HELPER else reversed(names)
            yours = f"You look after {own}, {MAIN if agent == HELPER else HELPER} after {other}."
        if self.config.retype:
            return [yours, "Write what is wrong or missing anew."]
        lines = "replace NAME, before NAME, after NAME (code below), delete NAME, rename OLD NEW, add import X"
        return [yours, f"Edit by lines: {lines}. NAME may be {names[0]}.return."]

    def step(self, state: Editing, actions: Mapping[AgentId, str]) -> Step[Editing]:
        """The operations of all agents take effect together, then the tests run."""
        said = {agent: self._read(actions.get(agent, ""), state.program) for agent in self.agents}
        most = self.config.operations * (2 if self.config.alone else 1)
        longest = min(LONGEST, GROWTH * len(state.work.program) + ROOM)
        applied = apply(state.program, {agent: each.operations for agent, each in said.items()}, most, longest)
        if self.config.retype and applied.count:
            applied = replace(applied, program=without_dead(applied.program, state.work.signatures))
        unread = {agent: each.unread for agent, each in said.items()}
        refused = (*applied.refused.values(), *unread.values())
        after = replace(
            state,
            program=applied.program,
            applied=applied,
            unread=unread,
            tests=self._tested(state, applied.program),
            counts=counted(state.counts, applied.count, refused, applied.conflicts),
            round=state.round + 1,
        )
        after = replace(after, worth=self._worth(after))
        ending: Ending = "horizon" if after.round >= self.horizon else ""
        if after.tests and all(test.outcome == "passed" for test in after.tests):
            ending = "solved"
        earned = after.worth - state.worth - self.config.conflict * len(applied.conflicts)
        details = {
            "program": after.program,
            "refused": {agent: list(lines) for agent, lines in applied.refused.items()},
            "conflicts": list(applied.conflicts),
            "verdicts": [{"test": t.test, "outcome": t.outcome, "message": t.message} for t in after.tests],
        }
        return Step(after, joint(self.agents, earned), ending, _metrics(after), details)

    def unjudged(self, state: Editing, actions: Mapping[AgentId, str]) -> Step[Editing]:
        """The same without tests: what an editor underlines needs none."""
        step = self.step(replace(state, work=replace(state.work, tests=())), actions)
        return replace(step, rewards=joint(self.agents, 0.0))

    def demonstrations(self) -> Demonstrations:
        """The operations that mend each program of training, or with `retype` the functions as they are mended."""
        return {example.id: self._mend(example) for example in self.examples("train")}

    def _mend(self, example: Example) -> dict[AgentId, list[str]]:
        edits = dict(example.data["edits"])
        if self.config.retype:
            mended = {name: piece.text for piece in pieces(example.data["mended"]) for name in piece.names}
            names = dict(zip(edits, work_of(example).signatures, strict=True))
            imports = {agent: f"{IMPORT}\n" * (fault == "import") for agent, fault in example.data["faults"].items()}
            edits = {agent: f"{imports[agent]}{mended[name]}" for agent, name in names.items()}
        return {EDITOR: ["\n".join(edits.values())]} if self.config.alone else {a: [text] for a, text in edits.items()}

    def _read(self, answer: str, program: str) -> Said:
        return retyped(answer, program) if self.config.retype else read(answer)

    def _tested(self, state: Editing, program: str) -> tuple[Judged, ...]:
        tests = state.work.tests
        if not tests:
            return ()
        if program == state.program and state.tests:
            return state.tests
        verdicts = self.judge.run(program_of(program, tests))
        return tuple(judged(*pair) for pair in zip(tests, verdicts, strict=True))

    def _worth(self, state: Editing) -> float:
        work = state.work
        if not work.tests:
            return 0.0
        passed = sum(test.outcome == "passed" for test in state.tests)
        mended = (passed - work.passed) / (len(work.tests) - work.passed)
        beyond = num_changed(work.program, state.program) - work.needed
        excess = min(1.0, max(0, beyond) / len(work.program.split("\n")))
        return mended - self.config.size * excess


def _metrics(state: Editing) -> dict[str, float]:
    work = state.work
    passed = [test.outcome == "passed" for test in state.tests]
    values = {
        "tests": 100 * sum(passed) / max(1, len(passed)),
        "full_test_pass": float(bool(passed) and all(passed)),
        "size": float(num_changed(work.program, state.program)),
        "return_percent": 100 * state.worth,
        **state.counts,
    }
    for (agent, fault), name in zip(work.faults.items(), work.signatures, strict=False):
        own = [right for test, right in zip(work.tests, passed, strict=False) if test[0] == name]
        values[f"mended/{agent}_{fault}"] = 100 * float(bool(own) and all(own))
    return values


@contextmanager
def open_edit(config: Edit) -> Iterator[EditTask]:
    """Opens the sandbox, yields the task that it serves, and closes it.

    Raises:
        EngineError: if the machine cannot confine what models write.
    """
    seconds = config.program_seconds
    with sandbox_for(seconds, seconds, config.memory_mb, config.unconfined) as sandbox:
        yield EditTask(config, sandbox)
