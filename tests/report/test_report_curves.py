"""From steps to curves: averages with known values, bands, gaps, and charts that fit a page of either theme."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any
from xml.etree import ElementTree

import pytest

from fakes.synthetic import write_lines, write_run
from madrigal.commands.report import write_report
from madrigal.report.charts import DOTTED, Look, draw_panel, ticks
from madrigal.report.curves import CURVES, PANELS, POINTS, Curve, Dot, Panel, panels, shares, smoothed, thinned, window
from madrigal.report.meanings import Meaning
from madrigal.report.results import facts, origin
from madrigal.runs.read import read_runs
from madrigal.runs.variants import variants


def made(folder: Path, steps: list[dict[str, Any]], **settings: Any) -> Path:
    """A run with these steps and no evaluations."""
    write_run(folder, steps=0, **settings)
    write_lines(folder / "steps.jsonl", steps)
    (folder / "evaluation.json").unlink()
    return folder


def drawn(*folders: Path) -> dict[str, Panel]:
    return {panel.pattern: panel for panel in panels(variants(read_runs(folders)))}


def test_one_run_is_a_line_without_a_band(tmp_path: Path) -> None:
    (curve,) = drawn(made(tmp_path / "run", [{"step": n, "reward": n / 2} for n in range(5)]))["reward"].curves
    assert curve == Curve("", 0, (0, 1, 2, 3, 4), (0, 0.5, 1, 1.5, 2))


def test_seeds_become_their_mean_with_the_least_and_the_greatest(tmp_path: Path) -> None:
    folders = [
        made(tmp_path / str(seed), [{"step": n, "reward": float(seed * n)} for n in range(3)], seed=seed)
        for seed in (1, 2, 6)
    ]
    (curve,) = drawn(*folders)["reward"].curves
    assert (curve.ys, curve.low, curve.high) == ((0, 3, 6), (0, 1, 2), (0, 6, 12))


def test_runs_with_other_settings_are_lines_of_their_own(tmp_path: Path) -> None:
    steps = [{"step": 0, "reward": 1.0}]
    folders = [
        made(tmp_path / "a", steps, seed=0),
        made(tmp_path / "b", steps, seed=1),
        made(tmp_path / "c", steps, seed=0, prompts=4),
    ]
    kinds = variants(read_runs(folders))
    assert [(kind.name, len(kind.runs)) for kind in kinds] == [("prompts 8", 2), ("prompts 4", 1)]
    assert [curve.variant for curve in drawn(*folders)["reward"].curves] == [0, 1]


def test_agents_and_policies_are_lines_of_one_panel(tmp_path: Path) -> None:
    step = {
        "step": 0,
        "agent/ann/tokens": 1.0,
        "agent/bob/tokens": 2.0,
        "update/ann/kl": 0.5,
        "group/zero_advantage_fraction": 0.1,
    }
    found = drawn(made(tmp_path / "run", [step]))
    assert [curve.name for curve in found["agent/*/tokens"].curves] == ["ann", "bob"]
    assert [curve.name for curve in found["update/*/kl"].curves] == ["ann"]
    assert found["group/zero_advantage_fraction"].meaning.title == "Equal answers"


def test_what_is_not_finite_or_no_number_is_a_gap(tmp_path: Path) -> None:
    """Nor what no scale can hold; the page is made all the same."""
    values = [1.0, math.nan, "three", None, True, 10**400, 1e308, -1e308, 10**14, 6.0]
    folder = made(tmp_path / "run", [{"step": n, "reward": v, "update/a/kl": v} for n, v in enumerate(values)])
    (curve,) = drawn(folder)["reward"].curves
    assert (curve.xs, curve.ys) == ((0, 8, 9), (1, 1e14, 6))
    assert write_report([folder]).is_file()


def test_smoothing_keeps_the_mean_of_a_line_and_its_ends() -> None:
    line = {n: 3.0 * n for n in range(100)}
    assert fmean(smoothed(line, 5).values()) == pytest.approx(fmean(line.values()))
    assert smoothed(line, 5)[50] == pytest.approx(150)
    assert smoothed(line, 5)[0] == pytest.approx(fmean([0, 3, 6]))


@pytest.mark.parametrize(("steps", "width"), [(1, 1), (49, 1), (50, 3), (110, 5), (1000, 41)])
def test_windows_are_odd_and_a_part_of_the_run(steps: int, width: int) -> None:
    assert window(steps) == width


@pytest.mark.parametrize("count", [0, 1, POINTS, POINTS + 1, 10 * POINTS])
def test_thinning_keeps_the_last_step(count: int) -> None:
    kept = thinned(range(count))
    assert len(kept) <= POINTS and kept[-1:] == list(range(count))[-1:] and kept == sorted(kept)


def test_evaluations_are_points_of_their_component(whole: Path) -> None:
    found = drawn(whole)
    held = json.loads((whole / "evaluation.json").read_text())
    before, after = held["before"], held["after"]
    assert found["component/return_percent"].dots == (
        Dot(0, 0, before["return_percent"], before["low"], before["high"]),
        Dot(0, 60, after["return_percent"], after["low"], after["high"]),
    )
    assert found["component/tests"].dots[1].y == after["components"]["tests"]


def test_validation_is_a_series_of_its_own_and_a_warm_start_a_point_at_step_0(whole: Path, tmp_path: Path) -> None:
    """Five points of validation on one dotted line, none of them among the three on held-out examples."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    held = json.loads((run / "evaluation.json").read_text())
    warm = held["after"] | {"return_percent": 55.0, "low": 50.0, "high": 60.0}
    (run / "evaluation.json").write_text(json.dumps(held | {"warm": warm}))
    chosen = {f"step-{step}": warm | {"return_percent": 40.0 + step} for step in (0, 15, 30, 45, 60)}
    (run / "validation.json").write_text(json.dumps(chosen))
    panel = drawn(run)["component/return_percent"]
    assert [(dot.x, dot.y) for dot in panel.validations] == [(step, 40.0 + step) for step in (0, 15, 30, 45, 60)]
    assert [dot.x for dot in panel.dots] == [0, 0, 60] and panel.dots[1] == Dot(0, 0, 55.0, 50.0, 60.0)
    page = write_report([run], tmp_path / "page.html").read_text()
    assert "Open points on a dotted line are evaluations on the validation split." in page
    assert "validation after 45 steps: 85; validation after 60 steps: 100" in page
    before = write_report([whole], tmp_path / "whole.html").read_text()
    # Beside return, each component of an evaluation has such a line.
    assert page.count(f'stroke-dasharray="{DOTTED}"') - before.count(f'stroke-dasharray="{DOTTED}"') == 3


def test_a_run_whose_task_knows_no_return_still_shows_its_evaluations(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=3)
    (run / "steps.jsonl").write_text('{"step": 0, "reward": 1.0}\n')
    assert len(drawn(run)["component/return_percent"].dots) == 2


def test_schemes_are_shares_and_no_panel(tmp_path: Path) -> None:
    steps = [{"step": 0, "component/scheme/none": 1.0}, {"step": 1, "component/scheme/fallback": 0.5}]
    run = made(tmp_path / "run", steps)
    assert not any("scheme" in pattern for pattern in drawn(run))
    (kind,) = variants(read_runs([run]))
    assert {name: curve.ys for name, curve in shares(kind).items()} == {"none": (1, 0), "fallback": (0, 0.5)}


HOSTILE = '</svg><script>alert(1)</script> $x_$ & "quoted"'


def chart(name: str = "ann", mark: str = "chart1") -> str:
    curve = Curve(name, 0, (0, 1), (1, 2), low=(0, 1), high=(2, 3))
    panel = Panel("reward", Meaning("Reward"), (curve,), (Dot(0, 1, 2, 1, 3),))
    return draw_panel(panel, lambda _: Look(1), False, name, mark)


def test_charts_name_colors_and_carry_no_style_of_their_own() -> None:
    drawing = chart()
    assert not re.search(r"#[0-9a-f]{6}|style=|<style|<metadata|<image|xmlns", drawing)
    assert {"var(--series-1)", "var(--series-0)", "var(--muted)", "var(--rule)"} <= set(
        re.findall(r"var\([^)]*\)", drawing)
    )


def test_charts_are_well_formed_and_their_words_stay_words() -> None:
    root = ElementTree.fromstring(chart(HOSTILE))
    assert root.get("aria-label") == HOSTILE and root.get("role") == "img"
    assert not root.findall(".//script")


@pytest.mark.parametrize("low", [0.0, -3.2, 1e14, -1e99, 1e-300])
@pytest.mark.parametrize("span", [1e-320, 1e-9, 0.7, 59.0, 1e99])
def test_the_numbers_of_an_axis_are_few_and_on_it(low: float, span: float) -> None:
    curve = Curve("", 0, (0, 1), (low, low + span))
    drawing = draw_panel(Panel("reward", Meaning("Reward"), (curve,)), lambda _: Look(1), False, "label", "chart")
    assert "nan" not in drawing and "inf" not in drawing
    if span > 1e-10 * abs(low):
        numbers = ticks(low, low + span, 5)
        assert 1 <= len(numbers) <= 6 and all(low - span / 100 <= n <= low + span * 1.01 for n in numbers)


def test_ids_of_two_charts_differ_and_all_references_are_met() -> None:
    both = chart(mark="a") + chart(mark="b")
    ids = re.findall(r' id="([^"]*)"', both)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r"url\(#([^)]*)\)", both)) | set(re.findall(r'href="#([^"]*)"', both)) <= set(ids)


def test_thousands_of_series_are_few_charts(tmp_path: Path) -> None:
    many = {f"component/part{n}": 1.0 for n in range(3000)} | {f"agent/a{n}/tokens": 1.0 for n in range(3000)}
    found = drawn(made(tmp_path / "run", [{"step": 0, **many}, {"step": 1, "update/a/kl": 0.5}]))
    assert len(found) == PANELS and {"agent/*/tokens", "update/*/kl"} <= set(found)
    assert len(found["agent/*/tokens"].curves) == CURVES


def test_a_run_says_when_and_by_what_it_was_made(tmp_path: Path) -> None:
    team = {"policy": {"model": "starter:small", "remote": {"model": ""}}}
    folder = made(tmp_path / "run", [{"step": n, "seconds": 1800.0, "tokens": 600} for n in range(3)], team=team)
    (run,) = read_runs([folder])
    assert origin(run) == {"Training time": "1 h 30 min", "Tokens": "1,800"}
    session = {"date": "2026-01-02T03:04:05+00:00", "madrigal": "0.2", "machine": {"device": "cpu", "cores": 2}}
    for about, date in (
        ({"sessions": [session, {**session, "date": "2026-01-03"}]}, "2026-01-02, 2026-01-03"),
        ([], ""),
    ):
        (folder / "run.json").write_text(json.dumps(about))
        assert origin(run).get("Date", "") == date
    (folder / "run.json").write_text(json.dumps({"sessions": [session, 1]}))
    shown = facts([run])
    assert (shown["Hardware"], shown["Madrigal"]) == ("2 cores", "0.2")
    assert shown["Models"] == "starter:small"  # and no endpoint's, for there is none
