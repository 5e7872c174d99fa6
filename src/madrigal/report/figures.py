"""Charts with their captions: learning curves by section, and schemes of cooperation over time.

Knows: which colour stands for whom, what to say beside a chart. Does not know: how charts are drawn, pages.
"""

from __future__ import annotations

from collections.abc import Sequence

from madrigal.report.charts import Look, described, draw_changes, draw_panel, draw_shares, swatch
from madrigal.report.curves import PANELS, Curve, Panel, agents, panels, shares, window
from madrigal.report.markup import NOTHING, Html, element, join, text
from madrigal.report.meanings import AGENTS, LEARNING, MEANINGS, MORE, OUTCOME, SECTIONS, section
from madrigal.report.results import changes, results
from madrigal.report.svg import QUIET, SERIES
from madrigal.runs.variants import Variant

TEAM = ("", "team")  # curves of all agents together: ink, as they belong to none of them
SCHEMES = ("fallback", "decorator", "coordinator", "strategy filter", "none")
SAID = {
    OUTCOME: "How good the team's joint answers are.",
    AGENTS: "What each agent does.",
    LEARNING: "What the updates do, and how much there is to learn from.",
    MORE: "The other numbers that steps.jsonl holds.",
}


def curves(kinds: Sequence[Variant]) -> Html:
    """Every panel with its caption, in sections; the last one is folded."""
    team = agents([run for kind in kinds for run in kind.runs])
    drawn = sorted(_told_apart(panels(kinds)), key=_rank)
    parts = []
    for title in SECTIONS:
        members = [panel for panel in drawn if section(panel.pattern) == title]
        if members:
            figures = join(_figure(panel, kinds, team, f"chart{drawn.index(panel)}") for panel in members)
            grid = element("div", {"class": "charts"}, figures)
            said = element("p", {"class": "said"}, text(SAID[title]))
            if title == MORE:
                parts.append(element("details", {}, element("summary", {}, text(title)), said, grid))
            else:
                parts.append(join([element("h3", {}, text(title)), said, grid]))
    if len(drawn) >= PANELS:
        few = f"Only {PANELS} charts are drawn; the other records are in steps.jsonl."
        parts.append(element("p", {"class": "said"}, text(few)))
    return join([element("p", {"class": "said"}, text(explained(kinds))), *parts]) if parts else NOTHING


def explained(kinds: Sequence[Variant]) -> str:
    """How to read the curves: what bands, thin lines and points are."""
    runs = [run for kind in kinds for run in kind.runs]
    width = window(max(len(run.steps) for run in runs))
    several = [len(kind.runs) for kind in kinds if len(kind.runs) > 1]
    said = []
    if several:
        counts = " or ".join(str(count) for count in sorted(set(several)))
        said.append(f"Lines are means over {counts} runs that differ in their seed.")
        said.append("Bands reach from the least to the greatest of them.")
    if width > 1:
        said.append(f"Lines are smoothed: each point is the mean over the {width} steps around it.")
        if len(several) < len(kinds):
            said.append("Thin lines are single steps.")
    if any(run.evaluations for run in runs):
        ends = "least and greatest run" if several else "95 % interval over examples"
        said.append(f"Points are evaluations on held-out examples with {ends}.")
    return " ".join(said)


def _told_apart(found: list[Panel]) -> list[Panel]:
    """Without the rewards of single agents where they are the joint reward: they would be drawn twice."""
    joint = {curve.variant: curve.ys for panel in found if panel.pattern == "reward" for curve in panel.curves}
    return [
        panel
        for panel in found
        if panel.pattern != "agent/*/reward" or any(joint.get(c.variant) != c.ys for c in panel.curves)
    ]


def _rank(panel: Panel) -> int:
    """Known measures in the order of their meanings; a task's own between return and the others."""
    known = list(MEANINGS)
    return known.index(panel.pattern) if panel.pattern in known else 1


def _figure(panel: Panel, kinds: Sequence[Variant], team: Sequence[str], mark: str) -> Html:
    names = list(dict.fromkeys(curve.name for curve in panel.curves))

    def look(curve: Curve) -> Look:
        if len(kinds) > 1:
            return Look(curve.variant + 1, names.index(curve.name))
        if curve.name in TEAM:
            return Look(0)
        place = team.index(curve.name) if curve.name in team else names.index(curve.name)
        return Look(place + 1, place // SERIES)

    called = [", ".join(filter(None, (kinds[curve.variant].name, curve.name))) for curve in panel.curves]
    legend = [_entry(look(curve), name) for curve, name in zip(panel.curves, called, strict=True) if name]
    only_played = {dot.variant for dot in panel.dots} - {curve.variant for curve in panel.curves}
    legend += [_entry(Look(n + 1), kinds[n].name) for n in sorted(only_played) if len(kinds) > 1]
    return element(
        "figure",
        {},
        element("figcaption", {}, *_caption(panel), element("ul", {"class": "legend"}, *legend) if legend else NOTHING),
        Html(draw_panel(panel, look, len(kinds) > 1, described(panel, called), mark)),
    )


def _caption(panel: Panel) -> list[Html]:
    unit = element("span", {"class": "unit"}, text(f" {panel.meaning.unit}")) if panel.meaning.unit else NOTHING
    said = element("p", {}, text(panel.meaning.text)) if panel.meaning.text else NOTHING
    return [element("h4", {}, text(panel.meaning.title), unit), said]


def _entry(look: Look, name: str, width: float = 2.5) -> Html:
    return element("li", {}, Html(swatch(look, width)), text(name))


def outcomes(kinds: Sequence[Variant]) -> Html:
    """For each kind of run its held-out results as a table, and beside it as a picture."""
    pairs = [[results(kind), _changes(kind, f"changes{number}")] for number, kind in enumerate(kinds)]
    return join(element("div", {"class": "outcome"}, *pair) for pair in pairs if any(pair))


def _changes(kind: Variant, mark: str) -> Html:
    rows = changes(kind)
    if not rows:
        return NOTHING
    told = "; ".join(f"{name} from {before[0]:.0f} to {after[0]:.0f} percent" for name, before, after in rows)
    said = "Open points: before training. Full points: after."
    return element(
        "figure",
        {},
        element("figcaption", {}, element("p", {}, text(said))),
        Html(draw_changes(rows, f"Held-out results before and after training. {told}.", mark)),
    )


def scheme_shares(kinds: Sequence[Variant]) -> Html:
    """A stacked area for each kind of run whose steps name schemes of cooperation."""
    figures = [_shares(kind, f"schemes{number}") for number, kind in enumerate(kinds)]
    if not any(figures):
        return NOTHING
    said = "The share of programs in which each way of working together was recognised. Several may hold at once, so "
    said += "shares can add up to more than 1."
    return join([element("p", {"class": "said"}, text(said)), *figures])


def _shares(kind: Variant, mark: str) -> Html:
    found = {name.replace("_", " "): curve for name, curve in shares(kind).items()}
    names = [*(name for name in SCHEMES if name in found), *(name for name in found if name not in SCHEMES)]
    if not names:
        return NOTHING
    # "none" is the absence of a scheme: it goes on top, in a quiet colour.
    names.sort(key=lambda name: name == "none")
    colours = {name: QUIET if name == "none" else number for number, name in enumerate(names, start=1)}
    ordered = {name: found[name] for name in names}
    legend = [_entry(Look(colours[name]), name, width=10) for name in names]
    told = "; ".join(f"{name} from {c.ys[0]:.0%} to {c.ys[-1]:.0%}" for name, c in ordered.items())
    return element(
        "figure",
        {"class": "whole"},
        element("figcaption", {}, element("h4", {}, text(kind.name)), element("ul", {"class": "legend"}, *legend)),
        Html(draw_shares(ordered, colours, f"Shares of schemes of cooperation over the steps. {told}.", mark)),
    )
