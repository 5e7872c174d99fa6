"""What each agent is told between two rounds of coding: five modes, as pure functions.

The texts are short on purpose: small models with a context of a few hundred tokens read them.

References:
    Liu et al., 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from madrigal.tasks.coding.score import Findings, Judged, Score
from madrigal.types import AgentId, Message, Messages

FeedbackMode = Literal["level_feedback", "expert_edits", "plain", "level_passed", "passed"]
FEEDBACK_MODES: tuple[FeedbackMode, ...] = get_args(FeedbackMode)

REVISE = "Revise. Code only."
LONGEST_TEST = 120
LONGEST_MESSAGE = 80


@dataclass(frozen=True, slots=True)
class Exchange:
    """One finished round as one agent knows it.

    Attributes:
        answer: what this agent said.
        score: what the joint answer was worth.
        edit: what an expert advised this agent to change; "" where none was asked or none came.
    """

    answer: str
    score: Score
    edit: str = ""


def next_messages(
    mode: FeedbackMode,
    first: str,
    past: Sequence[Exchange],
    agent: AgentId,
    sandbox_slice: int | None = 1,
) -> Messages:
    """Returns what one agent is shown in the round after `past`; with no past, its first prompt.

    | mode | what the agent is shown |
    |---|---|
    | level_feedback | all its own prompts and answers, the last one followed by diagnostics |
    | expert_edits | its first prompt, with the expert's advice below it |
    | plain | its last answer and a request to revise: self-evolving |
    | level_passed | its last answer and one short signal per level |
    | passed | its last answer and one signal: all passed, or not |

    Args:
        mode: how much is told.
        first: the agent's first prompt.
        past: the agent's own finished rounds, oldest first.
        agent: "helper" or "main"; main is also told how it uses aux.
        sandbox_slice: how many failing tests are shown: the first n, all for 0 or None, the last n for -n.
    """
    if not past:
        return (Message("user", first),)
    if mode == "expert_edits":
        return (Message("user", f"{first}\n\n{expert_text(past[-1].edit)}"),)
    if mode == "level_feedback":
        told = [diagnosis(exchange.score, agent, sandbox_slice) for exchange in past]
        return _chat(first, past, told)
    words = {"plain": _nothing, "level_passed": level_signals, "passed": one_signal}[mode]
    return _chat(first, past[-1:], [words(past[-1].score, agent)])


def _chat(first: str, past: Sequence[Exchange], told: Sequence[str]) -> Messages:
    messages = [Message("user", first)]
    for exchange, text in zip(past, told, strict=True):
        messages += [Message("assistant", exchange.answer), Message("user", text)]
    return tuple(messages)


def diagnosis(score: Score, agent: AgentId, sandbox_slice: int | None = 1) -> str:
    """Words every level of a score for one agent.

    >>> from madrigal.tasks.coding.score import Findings, Judged, Score
    >>> tests = (Judged("f(1) expected 1", "passed"), Judged("f(2) expected 4", "failed", "got 2"))
    >>> diagnosis(Score(Findings(tests=tests)), "helper").split(" Failed: ")
    ['Feedback: aux found. main found. syntax ok. tests 1/2.', 'f(2) expected 4 got 2. Revise. Code only.']
    """
    found = score.findings
    parts = [f"Feedback: {levels(found)}"]
    failing = [test for test in found.tests if test.outcome != "passed"]
    parts += [f"Failed: {failure(test)}." for test in _slice(failing, sandbox_slice)]
    if agent == "main":
        parts += usage_notes(found)
    return " ".join([*parts, REVISE])


def levels(found: Findings) -> str:
    """The first line of a diagnosis: what was found, whether it parses, how many tests passed."""
    aux = f"aux missing: {found.aux_missing}." if found.aux_missing else "aux found."
    parts = [
        *([] if found.solo else [aux]),
        f"main missing: {found.main_missing}." if found.main_missing else "main found.",
        syntax(found),
        f"tests {found.passed}/{len(found.tests)}." if found.tests else "tests not run.",
    ]
    return " ".join(parts)


def syntax(found: Findings) -> str:
    """Says whether the combined program parses; if not, where and why."""
    fault = found.fault
    if fault is None:
        return "syntax ok."
    author = f" in {fault.author}" if fault.author else ""
    place = f" line {fault.line} column {fault.column}" if fault.line else ""
    return f"syntax error{author}{place}: {_clip(fault.message, LONGEST_MESSAGE)}."


def failure(test: Judged) -> str:
    """Words one test that did not pass: the test, then what came of it."""
    text = _clip(test.test, LONGEST_TEST)
    if test.outcome == "timeout":
        return f"{text} took too long"
    if test.outcome == "crashed":
        return f"{text} crashed"
    return f"{text} {_clip(test.message, LONGEST_MESSAGE)}".rstrip(" .")


def usage_notes(found: Findings) -> list[str]:
    """What only the main agent is told: how it uses aux, and whether it adds anything of its own.

    Nothing for a single agent, nor where no main function was found or the program does not parse.
    """
    if found.solo or found.main_missing or found.fault:
        return []
    notes = {
        "not called": "aux is not used.",
        "misused": f"aux is misused: {found.misuse}.",
        "used": "aux is used.",
    }
    thin = ["main only wraps aux, do more in main."] if found.thin and found.usage != "not called" else []
    return [notes[found.usage], *thin]


def level_signals(score: Score, agent: AgentId) -> str:
    """One short signal per level: implementation, syntax, tests, and for main the use of aux."""
    found = score.findings
    implemented = not (found.aux_missing or found.main_missing)
    parts = [
        f"Feedback: implementation {'ok' if implemented else 'missing'}.",
        f"syntax {'error' if found.fault else 'ok'}.",
        f"tests {_share(found)}.",
    ]
    if agent == "main" and not found.solo:
        parts.append(f"aux {found.usage}.")
    return " ".join([*parts, REVISE])


def one_signal(score: Score, agent: AgentId) -> str:
    """One signal for all levels together."""
    return f"Feedback: {'all passed' if score.solved else 'not all passed'}. {REVISE}"


def expert_text(edit: str) -> str:
    """What an agent reads of an expert's advice."""
    return f"Expert: {edit.strip()}\n{REVISE}" if edit.strip() else f"Expert: no advice. {REVISE}"


def _nothing(score: Score, agent: AgentId) -> str:
    return REVISE


def _share(found: Findings) -> str:
    if not found.tests:
        return "not run"
    if found.passed == len(found.tests):
        return "all passed"
    return f"{found.passed} of {len(found.tests)} passed" if found.passed else "none passed"


def _slice(failing: list[Judged], sandbox_slice: int | None) -> list[Judged]:
    if not sandbox_slice:
        return failing
    return failing[:sandbox_slice] if sandbox_slice > 0 else failing[sandbox_slice:]


def _clip(text: str, longest: int) -> str:
    """Puts a text on one line of at most `longest` characters; the end is marked where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 3] + "..."
