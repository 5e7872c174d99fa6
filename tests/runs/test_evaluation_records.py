"""What is filed of an evaluation is whole: a kill in between leaves neither half of one nor two of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from madrigal.runs import log as module
from madrigal.runs.log import EPISODES, RunLog, read_lines

SHOWN = [{"example": "a", "return_percent": 1.0, "turns": []}]


def evaluate(log: RunLog, kind: str) -> None:
    if kind == "test":
        log.evaluation("warm", {"low": 1.0}, SHOWN, 0)
    else:
        log.validation({"low": 1.0}, SHOWN, 0)


@pytest.mark.parametrize("write", ["append_lines", "write_whole"])
@pytest.mark.parametrize("kind", ["test", "validation"])
def test_a_kill_at_either_write_leaves_one_whole_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, write: str
) -> None:
    log = RunLog(tmp_path)
    log.step({"step": 0}, [{"step": 0, "example": "a"}])
    with monkeypatch.context() as killed, pytest.raises(InterruptedError):
        killed.setattr(module, write, lambda *_: (_ for _ in ()).throw(InterruptedError()))
        evaluate(log, kind)
    assert not (log.evaluations() or log.validations())
    log.rewind(1)
    evaluate(log, kind)
    log.rewind(1)
    assert [record.get("evaluation") for record in read_lines(tmp_path / EPISODES)] == [
        None,
        "warm" if kind == "test" else "validation-0",
    ]
