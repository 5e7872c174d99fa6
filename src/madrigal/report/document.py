"""The page: a template, its style and script, and what they show, in one file that asks for nothing else.

Knows: the files in `page/`, which sections there are, what the page may do. Does not know: how any section is made.

A transcript is text by a model and may hold anything. It never becomes markup: what this side writes is escaped, what
the script shows goes in as text, transcripts travel in base64, and the content policy lets only this very script and
this very style run, and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Protocol

from madrigal.report.figures import curves, outcomes, scheme_shares
from madrigal.report.markup import NOTHING, Html, element, fill, join, text
from madrigal.report.results import all_settings, comparison, facts, headline
from madrigal.report.transcripts import Packed, pack
from madrigal.runs.read import Run
from madrigal.runs.variants import variants

THEME = "theme.js"  # runs before the page is drawn, so that it does not flash
SCRIPTS = ("unpack.js", "filters.js", "list.js", "tokens.js", "episode.js", "viewer.js")


class Alarm(Protocol):
    """Something in a run that a person should look at."""

    @property
    def name(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def step(self) -> int | None: ...
    @property
    def text(self) -> str: ...


Raised = tuple[Run, Alarm]


def document(runs: Sequence[Run], alarms: Sequence[Raised] = ()) -> str:
    """The whole page for runs of one task."""
    kinds = variants(runs)
    packed = pack(runs)
    sections = {
        "notices": ("Notices", _notices(runs, packed)),
        "results": ("Held-out results", join([headline(kinds), outcomes(kinds)])),
        "comparison": ("Comparison", join(_comparisons(runs))),
        "alarms": ("Alarms", _alarms(alarms)),
        "curves": ("Learning curves", curves(kinds)),
        "schemes": ("Schemes of cooperation", scheme_shares(kinds)),
    }
    shown = {key: (title, body) for key, (title, body) in sections.items() if "<" in body}
    style, theme, script = _page("page.css"), _page(THEME), "\n".join(map(_page, SCRIPTS))
    title = ", ".join(dict.fromkeys(str(run.settings.get("recipe", run.name)) for run in runs))
    return fill(
        _page("template.html"),
        {
            "policy": text(policy(style, theme, script)),
            "title": text(title),
            "names": text(", ".join(str(run.folder) for run in runs)),
            "state": text(_state(runs)),
            "facts": _facts(runs),
            "settings": all_settings(kinds),
            "links": join(_link(key, name) for key, (name, _) in shown.items()),
            "sections": join(_section(key, name, body) for key, (name, body) in shown.items()),
            "kind": text(_kind(runs)),
            "style": Html(style),
            "theme": Html(theme),
            "script": Html(script),
            "transcripts": Html(packed.block),
        },
    )


def policy(style: str, *scripts: str) -> str:
    """What the page may do: run these scripts, use this style, and nothing else; its icon is written in the page."""
    return (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}'"


def _page(name: str) -> str:
    return files("madrigal.report").joinpath("page", name).read_text(encoding="utf-8")


def _kind(runs: Sequence[Run]) -> str:
    """Answers that are programs are shown in letters of one width."""
    task = runs[0].settings.get("task")
    return "code" if isinstance(task, dict) and task.get("kind") == "Coding" else "prose"


def _state(runs: Sequence[Run]) -> str:
    going = [run for run in runs if not run.ended]
    if not going:
        return f"{len(runs)} runs, all ended" if len(runs) > 1 else "Ended"
    return "; ".join(f"{run.name}: {run.made} of {run.planned} steps so far" for run in going)


def _facts(runs: Sequence[Run]) -> Html:
    entries = (
        element("div", {}, element("dt", {}, text(label)), element("dd", {}, text(value)))
        for label, value in facts(runs).items()
    )
    return element("dl", {"class": "facts"}, *entries)


def _link(key: str, name: str) -> Html:
    return element("a", {"href": f"#{key}"}, text(name))


def _section(key: str, name: str, body: Html) -> Html:
    title = element("h2", {"id": f"{key}-title"}, text(name))
    return element("section", {"id": key, "aria-labelledby": f"{key}-title"}, title, body)


def _notices(runs: Sequence[Run], packed: Packed) -> Html:
    told = [f"{run.name}: {notice}" if len(runs) > 1 else notice for run in runs for notice in run.notices]
    items = [element("li", {}, text(notice)) for notice in [*told, *packed.notices]]
    return element("ul", {"class": "notices"}, *items) if items else NOTHING


def _alarms(alarms: Sequence[Raised]) -> Html:
    several = len({run.name for run, _ in alarms}) > 1
    items = [
        element(
            "li",
            {"class": f"alarm {alarm.level}"},
            element("strong", {}, text(alarm.name.replace("_", " "))),
            element("span", {"class": "level"}, text(_where(run, alarm, several))),
            element("p", {}, text(alarm.text)),
        )
        for run, alarm in alarms
    ]
    return element("ul", {"class": "alarms"}, *items) if items else NOTHING


def _where(run: Run, alarm: Alarm, several: bool) -> str:
    step = "" if alarm.step is None else f"step {alarm.step}"
    return ", ".join(filter(None, (alarm.level, step, run.name if several else "")))


def _comparisons(runs: Sequence[Run]) -> list[Html]:
    """Each distinct one once: seeds of one comparison share a file."""
    found = list({str(run.comparison): comparison(run.comparison) for run in runs if run.comparison}.values())
    return [table for table in found if table]
