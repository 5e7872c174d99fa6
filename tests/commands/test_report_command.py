"""The command: where the page goes, and one line for every mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fakes.synthetic import write_run
from madrigal.commands.report import report_command, write_report
from madrigal.types import ConfigError


def test_the_page_of_one_run_lies_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "runs" / "one", steps=2)
    assert report_command([str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not list(run.glob(".*"))


@pytest.mark.usefixtures("no_charts")
def test_the_page_of_several_runs_lies_beside_them(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "runs" / name, steps=2, seed=len(name)) for name in ("one", "other")]
    assert write_report(runs) == tmp_path / "runs" / "report.html"


@pytest.mark.usefixtures("no_charts")
def test_the_page_goes_where_it_is_told(whole: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "page.html"
    assert write_report([whole], target) == target and target.is_file()


@pytest.mark.usefixtures("no_charts")
def test_a_page_that_cannot_be_written_is_one_line(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"report: .*page.html could not be written: "):
        write_report([whole], tmp_path / "file" / "page.html")


@pytest.mark.usefixtures("no_charts")
def test_a_folder_in_the_place_of_the_page_is_one_line(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(ConfigError, match=r"expected a file to write the page to, got the folder .*page.html"):
        write_report([whole], tmp_path / "page.html")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("no_charts")
def test_a_device_in_the_place_of_the_page_stays(whole: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"expected a file to write the page to, got the device .*pipe"):
        write_report([whole], tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: run"),
        (["nowhere"], "expected a run folder with an experiment.json, found none in nowhere"),
        (["nowhere", "--out-put", "x"], "unknown setting --out-put: did you mean --output?"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        report_command(arguments)
    assert complaint in str(error.value)
