"""The page: one HTML file that loads nothing else.

A transcript is text by a model and may hold anything. It never becomes markup: text is escaped here, the script shows
it as text nodes, transcripts travel in base64, and the content policy runs only these scripts and this style.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from madrigal.evaluation.alarms import Alarm
from madrigal.evaluation.alarms import alarms as raise_alarms
from madrigal.report.figures import curves, outcomes, scheme_shares
from madrigal.report.markup import NOTHING, Html, element, fill, join, text
from madrigal.report.results import all_settings, comparison, facts, headline, validations, warm_start
from madrigal.report.roles import role_tables
from madrigal.report.transcripts import Packed, pack
from madrigal.runs.read import Line, Record, Run
from madrigal.runs.variants import variants

THEME = "theme.js"  # runs before the page is drawn, so that it does not flash
LIVE = "live.js"  # beside them in `madrigal view`
SCRIPTS = ("unpack.js", "filters.js", "list.js", "tokens.js", "episode.js", "viewer.js")


@dataclass(frozen=True, slots=True)
class Live:
    """What a page that keeps itself up to date knows besides: the stamp of its lines, and what goes on just now."""

    stamp: str
    now: str


def page_of(runs: Sequence[Run], live: Live | None = None) -> str:
    """The whole page for runs of one task, alarms included."""
    raised = [
        (run, alarm)
        for run in runs
        for alarm in raise_alarms(_records(run.steps), run.evaluations, _records(run.episodes))
    ]
    return document(runs, raised, live)


def _records(lines: Sequence[Line]) -> list[Record]:
    return [line.record for line in lines]


def document(runs: Sequence[Run], alarms: Sequence[tuple[Run, Alarm]] = (), live: Live | None = None) -> str:
    """The whole page for runs of one task.

    Args:
        live: of a page that asks where it came from for new lines; others ask nobody for anything.
    """
    kinds = variants(runs)
    packed = pack(runs)
    sections = {
        "notices": ("Notices", _notices(runs, packed)),
        "results": ("Held-out results", join([headline(kinds), outcomes(kinds)])),
        "warm": ("Warm start", join(map(warm_start, kinds))),
        "validation": ("Validation", join(map(validations, kinds))),
        "comparison": ("Comparison", join(_comparisons(runs))),
        "roles": ("Roles", role_tables(kinds)),
        "alarms": ("Alarms", _alarms(alarms)),
        "curves": ("Learning curves", curves(kinds)),
        "schemes": ("Schemes of cooperation", scheme_shares(kinds)),
    }
    shown = {key: (title, body) for key, (title, body) in sections.items() if "<" in body}
    now = element("p", {"id": "live", "class": "said", "role": "status"}, text(live.now)) if live else NOTHING
    names = [*SCRIPTS, *([LIVE] if live else [])]
    style, theme, script = _page("page.css"), _page(THEME), "\n".join(map(_page, names))
    title = ", ".join(dict.fromkeys(str(run.settings.get("recipe", run.name)) for run in runs))
    return fill(
        _page("template.html"),
        {
            "policy": text(policy(style, theme, script) + ("; connect-src 'self'" if live else "")),
            "stamp": Html(f' data-stamp="{text(live.stamp)}"') if live else NOTHING,
            "live": now,
            "title": text(title),
            "names": text(", ".join(str(run.folder) for run in runs)),
            "state": text(_state(runs)),
            "facts": _facts(runs),
            "settings": all_settings(kinds),
            "links": join(element("a", {"href": f"#{key}"}, text(name)) for key, (name, _) in shown.items()),
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


def _section(key: str, name: str, body: Html) -> Html:
    title = element("h2", {"id": f"{key}-title"}, text(name))
    return element("section", {"id": key, "aria-labelledby": f"{key}-title"}, title, body)


def _notices(runs: Sequence[Run], packed: Packed) -> Html:
    notices = [f"{run.name}: {notice}" if len(runs) > 1 else notice for run in runs for notice in run.notices]
    items = [element("li", {}, text(notice)) for notice in [*notices, *packed.notices]]
    return element("ul", {"class": "notices"}, *items) if items else NOTHING


def _alarms(alarms: Sequence[tuple[Run, Alarm]]) -> Html:
    several = len({run.name for run, _ in alarms}) > 1
    items = []
    for run, alarm in alarms:
        step = "" if alarm.step is None else f"step {alarm.step}"
        where = ", ".join(filter(None, (alarm.level, step, run.name if several else "")))
        name = element("strong", {}, text(alarm.name.replace("_", " ")))
        level = element("span", {"class": "level"}, text(where))
        items.append(element("li", {"class": f"alarm {alarm.level}"}, name, level, element("p", {}, text(alarm.text))))
    return element("ul", {"class": "alarms"}, *items) if items else NOTHING


def _comparisons(runs: Sequence[Run]) -> list[Html]:
    """Each distinct one once: seeds of one comparison share a file."""
    tables = {str(run.comparison): comparison(run.comparison) for run in runs if run.comparison}
    return [table for table in tables.values() if table]
