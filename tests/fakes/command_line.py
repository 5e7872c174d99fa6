"""What several tests of the command line do in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes.synthetic import write_lines
from madrigal import cli

Screen = pytest.CaptureFixture[str]


def refused(capsys: Screen, *arguments: str) -> str:
    """The one line of a refusal."""
    assert cli.run(list(arguments)) == 2
    err = capsys.readouterr().err
    assert err.startswith("madrigal: error: ") and err.count("\n") == 1 and err.endswith("\n")
    assert "Traceback" not in err
    return err


def write(name: str, *rows: Any) -> str:
    """Writes lines of JSON into the working folder."""
    write_lines(Path(name), rows)
    return name
