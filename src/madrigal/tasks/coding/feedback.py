"""What each agent is told between two rounds of coding: five modes, as pure functions.

The texts are short on purpose: small models with a context of a few hundred tokens read them.

References:
    Liu et al., 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from madrigal.tasks.coding.score import Fault, Findings, Judged, Score
from madrigal.types import AgentId, Message, Messages

FeedbackMode = Literal["level_feedback", "expert_edits", "plain", "level_passed", "passed"]
FEEDBACK_MODES: tuple[FeedbackMode, ...] = get_args(FeedbackMode)

REVISE = "Revise. Code only."
NO_ADVICE = f"Expert: no advice. {REVISE}"
LONGEST_TEST = 120
LONGEST_MESSAGE = 80


@dataclass(frozen=True, slots=True)
class Exchange:
    """One finished round as one agent knows it.

    Attributes:
        answer: what this agent wrote.
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
    sandbox_slice: int = 1,
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
        sandbox_slice: how many failing tests are shown: the first n, all for 0, the last n for -n.
    """
    if not past:
        return (Message("user", first),)
    if mode == "expert_edits":
        edit = past[-1].edit.strip()
        return (Message("user", f"{first}\n\nExpert: {edit}\n{REVISE}" if edit else f"{first}\n\n{NO_ADVICE}"),)
    messages = [Message("user", first)]
    for exchange in past if mode == "level_feedback" else past[-1:]:
        score = exchange.score
        text = {
            "level_feedback": diagnosis(score, agent, sandbox_slice),
            "level_passed": level_signals(score, agent),
            "passed": f"Feedback: {'all passed' if score.solved else 'not all passed'}. {REVISE}",
            "plain": REVISE,
        }[mode]
        messages += [Message("assistant", exchange.answer), Message("user", text)]
    return tuple(messages)


def diagnosis(score: Score, agent: AgentId, sandbox_slice: int = 1) -> str:
    """Words every level of a score for one agent.

    >>> from madrigal.tasks.coding.score import Fault, Findings, Judged, Score
    >>> tests = (Judged("f(1) expected 1", "passed"), Judged("f(2) expected 4", "failed", "got 2"))
    >>> diagnosis(Score(Findings(tests=tests)), "helper").split(" Failed: ")
    ['Feedback: aux found. main found. syntax ok. tests 1/2.', 'f(2) expected 4 got 2. Revise. Code only.']
    """
    findings = score.findings
    aux = f"aux missing: {findings.aux_missing}." if findings.aux_missing else "aux found."
    failing = [test for test in findings.tests if test.outcome != "passed"]
    if sandbox_slice:
        failing = failing[:sandbox_slice] if sandbox_slice > 0 else failing[sandbox_slice:]
    parts = [
        "Feedback:",
        *([] if findings.solo else [aux]),
        f"main missing: {findings.main_missing}." if findings.main_missing else "main found.",
        _syntax(findings.fault),
        f"tests {findings.passed}/{len(findings.tests)}." if findings.tests else "tests not run.",
        *(f"Failed: {failure(test)}." for test in failing),
        *(_usage_notes(findings) if agent == "main" else []),
        REVISE,
    ]
    return " ".join(parts)


def _syntax(fault: Fault | None) -> str:
    """Says whether the combined program parses; if not, where and why."""
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


def _usage_notes(findings: Findings) -> list[str]:
    """What only the main agent is told: how it uses aux, and whether it adds anything of its own.

    Nothing for a single agent, nor where no main function was found or the program does not parse.
    """
    if findings.solo or findings.main_missing or findings.fault:
        return []
    notes = {
        "not called": "aux is not used.",
        "misused": f"aux is misused: {findings.misuse}.",
        "used": "aux is used.",
    }
    thin = ["main only wraps aux, do more in main."] if findings.thin and findings.usage != "not called" else []
    return [notes[findings.usage], *thin]


def level_signals(score: Score, agent: AgentId) -> str:
    """One short signal per level: implementation, syntax, tests, and for main the use of aux."""
    findings = score.findings
    passed, total = findings.passed, len(findings.tests)
    tests = {0: "none passed", total: "all passed" if total else "not run"}.get(passed, f"{passed} of {total} passed")
    parts = [
        f"Feedback: implementation {'missing' if findings.aux_missing or findings.main_missing else 'ok'}.",
        f"syntax {'error' if findings.fault else 'ok'}.",
        f"tests {tests}.",
    ]
    if agent == "main" and not findings.solo:
        parts.append(f"aux {findings.usage}.")
    return " ".join([*parts, REVISE])


def _clip(text: str, longest: int) -> str:
    """Puts a text on one line of at most `longest` characters; the end is marked where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 3] + "..."
