"""The page: all that it needs is in it, what it shows is text, and what is missing is said."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fakes.synthetic import write_lines, write_run
from madrigal.evaluation.alarms import Alarm
from madrigal.report.document import document
from madrigal.report.markup import element, fill, text
from madrigal.runs.read import read_runs

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{script}}'\"&\x1b[31m\u202e"


class Page(HTMLParser):
    """Reads a page as a browser would: its elements, the text of each section, what runs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.words: dict[str, str] = {}
        self.section = ""
        self.open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        self.open = tag
        if tag == "section":
            self.section = given["id"] or ""
        if tag == "script" and given.get("type") is None:
            self.scripts.append("")
        elif tag == "script":
            self.open = "block"
        if tag == "style":
            self.styles.append("")

    def handle_data(self, data: str) -> None:
        if self.open == "script":
            self.scripts[-1] += data
        elif self.open == "style":
            self.styles[-1] += data
        elif self.open != "block":
            self.words[self.section] = self.words.get(self.section, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.open = ""


def page_of(*folders: Path, alarms: tuple[Alarm, ...] = ()) -> Page:
    runs = read_runs(folders)
    return Page(document(runs, [(runs[0], alarm) for alarm in alarms]))


@pytest.fixture(scope="module")
def page(whole: Path) -> Page:
    return page_of(whole)


def test_the_page_asks_for_nothing_from_outside(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"iframe", "object", "embed", "base"}
        assert "src" not in attributes and not any(name.startswith("on") for name in attributes)
        for name in ("href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"@import|url\(", page.styles[0])


def test_the_policy_allows_these_scripts_and_this_style_only(page: Page) -> None:
    (policy,) = (a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and len(page.scripts) == 2 and len(page.styles) == 1

    def names(content: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    assert f"script-src {names(page.scripts[0])} {names(page.scripts[1])};" in policy
    assert f"style-src {names(page.styles[0])};" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert not any("style" in attributes for _, attributes in page.elements)


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {(attributes.get("href") or "") for tag, attributes in page.elements if tag == "a"}
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_every_field_has_a_label_and_every_picture_a_text(page: Page) -> None:
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    assert page.words["curves"].count("Entropy") == 1
    labels = [a["aria-label"] for tag, a in page.elements if tag == "svg" and a.get("aria-label")]
    assert any(
        re.match(r"Entropy\. helper: [\d.]+ at step 0, [\d.]+ at step 59; main: ", label or "") for label in labels
    )


def test_results_stand_before_and_after_with_intervals(page: Page, whole: Path) -> None:
    held = json.loads((whole / "evaluation.json").read_text())
    for when in ("before", "after"):
        result = held[when]
        assert f"{result['return_percent']:.1f} [{result['low']:.1f}, {result['high']:.1f}]" in page.words["results"]
    assert "Held-out results on 12 examples: mean and 95 % bootstrap interval" in page.words["results"]


def test_what_was_not_timed_has_no_row(page: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=2, examples=2)
    held = json.loads((run / "evaluation.json").read_text())
    for result in held.values():
        result |= {"tokens_per_second": 0.0, "response_seconds": 0.0}
    (run / "evaluation.json").write_text(json.dumps(held))
    assert "tokens a second" in page.words["results"] and "response time" in page.words["results"]
    assert not [name for name in ("tokens a second", "response time") if name in page_of(run).words["results"]]


def test_a_warm_start_has_a_column_and_a_table(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    held = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps(held | {"warm": held["before"] | {"return_percent": 55.5}}))
    kept = {"examples": 32, "samples": 8, "kept": 21, "return_percent": 12.5, "kept_return_percent": 47.25}
    write_lines(
        run / "warm.jsonl", [kept, {"epoch": 0, "update/main/loss": 1.5}, {"epoch": 1, "update/main/loss": 0.75}]
    )
    page = page_of(run)
    assert "beforewarmafterchange" in page.words["results"] and "warm55.5 %" in page.words["results"]
    assert "learned from21return % of all12.5return % of those47.25" in page.words["warm"]
    assert "epoch 1, main1.5epoch 2, main0.75" in page.words["warm"]
    (run / "warm.jsonl").write_text('{"epoch": 0, "update/main/loss": "x"}\n{"epo')
    assert "warm" not in page_of(run).words and "warm.jsonl: line 2" in page_of(run).words["notices"]


def test_seeds_are_averaged_in_curves_and_tables(tmp_path: Path) -> None:
    page = page_of(*(write_run(tmp_path / f"seed{seed}", steps=4, seed=seed) for seed in range(3)))
    assert "mean of 3 runs (seeds 0, 1, 2), least and greatest of them" in page.words["results"]
    assert "Bands reach from the least to the greatest of them." in page.words["curves"]
    assert "3 runs, all ended" in page.words[""]


def test_a_contender_that_was_only_played_is_named_beside_its_points(tmp_path: Path) -> None:
    for name, steps in (("team", 4), ("untrained team", 0)):
        run = write_run(tmp_path / "seed-0" / name, steps=steps, prompts=4 + steps)
        (run / "contender.json").write_text(json.dumps({"name": name}))
    (tmp_path / "comparison.json").write_text("{}")
    page = page_of(tmp_path)
    assert re.search(r"Return %In percent[^.]*\.teamuntrained team", page.words["curves"])
    assert "team. Held-out results on 12 examples" in page.words["results"]


@pytest.mark.usefixtures("no_charts")
def test_alarms_say_what_where_and_how_grave(whole: Path) -> None:
    page = page_of(
        whole, alarms=(Alarm("lazy_agent", "warning", 40, "ann is silent."), Alarm("x", "notice", None, "y"))
    )
    assert "lazy agentwarning, step 40ann is silent." in page.words["alarms"]
    assert "xnoticey" in page.words["alarms"]


@pytest.mark.usefixtures("no_charts")
def test_a_comparison_is_shown_as_it_was_written(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    rows = [
        {"name": "team", "columns": {"return": {"mean": 81.25, "low": 79.0, "high": 83.5}}},
        {"name": "best of 4", "columns": {"return": {"mean": 70.0}, "tokens": {"mean": 3, "low": "?"}}},
        {"name": "odd", "columns": []},
        "no row",
    ]
    (run / "comparison.json").write_text(json.dumps({"rows": rows, "budget": "110 steps"}))
    words = page_of(run).words["comparison"]
    assert "Compared at equal budget: 110 steps." in words
    assert "team81.25 [79.00, 83.50]best of 470.003.00odd" in words


@pytest.mark.usefixtures("no_charts")
def test_notices_come_first_and_the_page_works_without_evaluation(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "evaluation.json").unlink()
    with (run / "steps.jsonl").open("a") as stream:
        stream.write('{"step": 60, "re')
    page = page_of(run)
    assert next(key for key in page.words if key not in {"", "settings"}) == "notices"
    assert "There is no evaluation yet" in page.words["notices"]
    assert "steps.jsonl: line 61 was cut off" in page.words["notices"]
    assert "results" not in page.words and "curves" in page.words


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=0, planned=10, examples=2)
    (run / "evaluation.json").unlink()
    page = page_of(run)
    assert "run: 0 of 10 steps so far" in page.words[""] and "curves" not in page.words


def test_hostile_names_and_texts_stay_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=3, recipe=HOSTILE, task={"kind": HOSTILE})
    for name in ("steps.jsonl", "episodes.jsonl", "evaluation.json"):
        content = (run / name).read_text()
        hostile = json.dumps(HOSTILE)[1:-1]
        (run / name).write_text(
            content.replace("helper", hostile).replace("tests", hostile).replace("landlord", hostile)
        )
    (run / "comparison.json").write_text(json.dumps({"rows": [{"name": HOSTILE, "columns": {HOSTILE: {}}}]}))
    page = page_of(run, alarms=(Alarm(HOSTILE, "notice", 1, HOSTILE),))
    assert len(page.scripts) == 2 and all("alert" not in script for script in page.scripts)
    assert not any(tag == "img" or "onerror" in attributes for tag, attributes in page.elements)
    assert "<img src=x onerror=alert(2)>{{script}}" in page.words["alarms"]
    assert "\\u001b[31m\\u202e" in page.words["alarms"]
    assert not any(letter in "".join(page.words.values()) for letter in "\x1b\u202e")


def test_a_template_is_filled_once() -> None:
    assert fill("<p>{{a}}</p>{{b}}", {"a": text("{{b}}"), "b": text("<")}) == "<p>{{b}}</p>&lt;"


def test_attributes_cannot_be_left() -> None:
    assert element("p", {"title": '" onclick="x'}, text("'")) == '<p title="&quot; onclick=&quot;x">&#x27;</p>'


def test_roles_are_measured_where_transcripts_say_them(tmp_path: Path) -> None:
    """Red says the one thing and blue the other in both runs; before training all said both."""

    def said(evaluation: str, n: int, apart: bool) -> dict[str, object]:
        red, blue = ("clean <house>", "dig garden") if apart or n % 4 > 1 else ("dig garden", "clean <house>")
        first, second = ("red", "blue") if n % 2 else ("blue", "red")
        words = {"red": red, "blue": blue}
        turns = [
            {"round": 0, "agent": "helper", "prompt": [], "text": words[first], "advantage": None},
            {"round": 0, "agent": "main", "prompt": [], "text": words[second], "advantage": None},
        ]
        details = {"roles": {"helper": first, "main": second}}
        return {
            "evaluation": evaluation,
            "step": 0,
            "example": f"x{n}",
            "reward": 1,
            "turns": turns,
            "details": details,
        }

    folders = [write_run(tmp_path / f"seed{seed}", steps=4, seed=seed) for seed in range(2)]
    for folder in folders:
        lines = [said("before", n, apart=False) for n in range(40)] + [said("after", n, apart=True) for n in range(40)]
        write_lines(folder / "episodes.jsonl", lines)
    words = page_of(*folders).words["roles"]
    assert "information of role and behavior, nats0.69 [0.69, 0.69]" in words
    assert "information of seat and behavior, nats0.00 [0.00, 0.00]" in words
    assert "agreement of runs, role by role1.00" in words
    assert "clean <house>" in words and "answers likebluered" in words
    assert "Roles and behavior: 80 answers." in page_of(folders[0]).words["roles"]
    write_lines(folders[0] / "episodes.jsonl", [{**said("after", 0, True), "details": {"roles": "\x1b[2J"}}])
    assert "roles" not in page_of(folders[0]).words
