"""The words of every mode, in full: small models are trained on exactly these."""

from __future__ import annotations

import subprocess
import sys

import pytest

from madrigal.tasks.coding.feedback import FEEDBACK_MODES, Exchange, diagnosis, level_signals, next_messages
from madrigal.tasks.coding.score import Fault, Findings, Judged, Score
from madrigal.types import Message

PASSED = Judged("candidate([]) expected 0", "passed")
WRONG = Judged("candidate([1, 2]) expected 4", "failed", "got 3")
RAISED = Judged("candidate([3]) expected 9", "error", "TypeError: no")
LATE = Judged("assert candidate(5)", "timeout", "no answer within the time limit")
DEAD = Judged("candidate(7) expected 7", "crashed", "its process died")

MIXED = Score(Findings(tests=(PASSED, WRONG, RAISED, LATE, DEAD), usage="used"), 0.4, 0.6, 0.5, 0.2, 1.5)
HEAD = "Feedback: aux found. main found. syntax ok. tests 1/5."
SOLVED = Score(Findings(tests=(PASSED,), usage="used"), 0.4, 0.6, 0.5, 1.0, 1.5)


@pytest.mark.parametrize(
    ("sandbox_slice", "failures"),
    [
        (1, "Failed: candidate([1, 2]) expected 4 got 3."),
        (2, "Failed: candidate([1, 2]) expected 4 got 3. Failed: candidate([3]) expected 9 TypeError: no."),
        (-2, "Failed: assert candidate(5) took too long. Failed: candidate(7) expected 7 crashed."),
    ],
)
def test_the_helper_reads_levels_and_a_slice_of_the_failures(sandbox_slice: int, failures: str) -> None:
    assert diagnosis(MIXED, "helper", sandbox_slice) == f"{HEAD} {failures} Revise. Code only."


@pytest.mark.parametrize("everything", [0, None, 4, 9, -4, -9])
def test_all_four_failures(everything: int | None) -> None:
    assert diagnosis(MIXED, "helper", everything).count("Failed:") == 4


@pytest.mark.parametrize(
    ("findings", "note"),
    [
        (Findings(tests=(PASSED,)), "aux is not used."),
        (Findings(tests=(PASSED,), usage="used"), "aux is used."),
        (Findings(tests=(PASSED,), usage="misused", misuse="y is never read"), "aux is misused: y is never read."),
        (Findings(tests=(PASSED,), usage="used", thin=True), "aux is used. main only wraps aux, do more in main."),
    ],
)
def test_main_also_reads_how_it_uses_aux(findings: Findings, note: str) -> None:
    head = "Feedback: aux found. main found. syntax ok. tests 1/1."
    assert diagnosis(Score(findings), "main") == f"{head} {note} Revise. Code only."
    assert diagnosis(Score(findings), "helper") == f"{head} Revise. Code only."


def test_what_is_missing_is_named() -> None:
    found = Findings(aux_missing="aux returns nothing", main_missing="no def f")
    assert diagnosis(Score(found), "main") == (
        "Feedback: aux missing: aux returns nothing. main missing: no def f. syntax ok. tests not run. "
        "Revise. Code only."
    )


def test_a_syntax_error_has_an_author_and_a_place() -> None:
    found = Findings(fault=Fault("invalid syntax", 2, 5, "main"))
    assert diagnosis(Score(found), "main") == (
        "Feedback: aux found. main found. syntax error in main line 2 column 5: invalid syntax. tests not run. "
        "Revise. Code only."
    )
    assert "syntax error: nested too deeply." in diagnosis(Score(Findings(fault=Fault("nested too deeply"))), "main")


def test_a_single_agent_reads_nothing_about_aux() -> None:
    text = diagnosis(Score(Findings(tests=(PASSED, WRONG), solo=True)), "main")
    assert text == (
        "Feedback: main found. syntax ok. tests 1/2. Failed: candidate([1, 2]) expected 4 got 3. Revise. Code only."
    )
    assert "aux" not in level_signals(Score(Findings(solo=True)), "main")


def test_long_messages_are_cut() -> None:
    long = Judged("candidate(" + "1, " * 500 + ") expected 4", "error", "ValueError: " + "x\n" * 500)
    text = diagnosis(Score(Findings(tests=(long,))), "helper")
    assert len(text) < 320 and "\n" not in text and "..." in text


@pytest.mark.parametrize(
    ("score", "agent", "signals"),
    [
        (SOLVED, "main", "implementation ok. syntax ok. tests all passed. aux used."),
        (SOLVED, "helper", "implementation ok. syntax ok. tests all passed."),
        (MIXED, "helper", "implementation ok. syntax ok. tests 1 of 5 passed."),
        (Score(Findings(tests=(WRONG,))), "main", "implementation ok. syntax ok. tests none passed. aux not called."),
        (
            *(Score(Findings(main_missing="no def f", fault=Fault("x"))), "helper"),
            "implementation missing. syntax error. tests not run.",
        ),
    ],
)
def test_one_signal_per_level(score: Score, agent: str, signals: str) -> None:
    assert level_signals(score, agent) == f"Feedback: {signals} Revise. Code only."


def test_level_feedback_shows_the_whole_history() -> None:
    past = (Exchange("first", MIXED), Exchange("second", SOLVED))
    messages = next_messages("level_feedback", "Write aux.", past, "helper")
    assert [message.role for message in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [message.content for message in messages[:2]] == ["Write aux.", "first"]
    assert messages[3].content == "second" and messages[4].content == diagnosis(SOLVED, "helper")


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("plain", "Revise. Code only."),
        ("passed", "Feedback: not all passed. Revise. Code only."),
        ("level_passed", "Feedback: implementation ok. syntax ok. tests 1 of 5 passed. Revise. Code only."),
    ],
)
def test_the_other_modes_show_the_last_answer_only(mode: str, told: str) -> None:
    past = (Exchange("first", SOLVED), Exchange("second", MIXED))
    chosen = next(known for known in FEEDBACK_MODES if known == mode)
    assert next_messages(chosen, "Write aux.", past, "helper") == (
        Message("user", "Write aux."),
        Message("assistant", "second"),
        Message("user", told),
    )


def test_passed_says_so_when_solved() -> None:
    assert next_messages("passed", "p", (Exchange("a", SOLVED),), "main")[-1].content.startswith(
        "Feedback: all passed."
    )


def test_expert_edits_repeat_the_first_prompt_with_the_advice_below() -> None:
    (message,) = next_messages("expert_edits", "Write aux.", (Exchange("a", MIXED, "sort first"),), "helper")
    assert message.content == "Write aux.\n\nExpert: sort first\nRevise. Code only."
    (message,) = next_messages("expert_edits", "Write aux.", (Exchange("a", MIXED),), "helper")
    assert message.content == "Write aux.\n\nExpert: no advice. Revise. Code only."


def test_every_mode_begins_with_the_first_prompt() -> None:
    assert {next_messages(mode, "Write.", (), "main") for mode in FEEDBACK_MODES} == {(Message("user", "Write."),)}


def test_the_words_need_neither_torch_nor_the_sandbox() -> None:
    code = (
        "import sys, madrigal.tasks.coding.feedback\n"
        "print([name for name in sys.modules if name == 'torch' or 'sandbox' in name])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
