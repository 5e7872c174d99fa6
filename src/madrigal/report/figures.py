"""Charts with their captions: learning curves by section, and schemes of cooperation over time."""

from __future__ import annotations

from collections.abc import Sequence

from madrigal.report.charts import QUIET, SERIES, Look, described, draw_changes, draw_panel, draw_shares, swatch
from madrigal.report.curves import PANELS, Curve, Panel, agents, panels, shares, window
from madrigal.report.markup import NOTHING, Html, element, join, text
from madrigal.report.meanings import AGENTS, LEARNING, MEANINGS, MORE, OUTCOME, SECTIONS, section
from madrigal.report.results import changes, results
from madrigal.runs.variants import Variant

TEAM = ("", "team")  # curves of all agents together: ink, as they belong to none of them
SCHEMES = ("fallback", "decorator", "coordinator", "strategy filter")  # these first
SUBTITLES = {
    OUTCOME: "How good the team's joint answers are.",
    AGENTS: "What each agent does.",
    LEARNING: "What the updates do, and how much there is to learn from.",
    MORE: "The other numbers that steps.jsonl holds.",
}


def curves(kinds: Sequence[Variant]) -> Html:
    """Every panel with its caption, in sections; the last one is folded."""
    team = agents([run for kind in kinds for run in kind.runs])
    drawn = sorted(_without_repeats(panels(kinds)), key=_rank)
    parts = []
    for title in SECTIONS:
        members = [panel for panel in drawn if section(panel.pattern) == title]
        if members:
            figures = join(_figure(panel, kinds, team, f"chart{drawn.index(panel)}") for panel in members)
            grid = element("div", {"class": "charts"}, figures)
            if title == MORE:
                parts.append(element("details", {}, element("summary", {}, text(title)), _note(SUBTITLES[title]), grid))
            else:
                parts.append(join([element("h3", {}, text(title)), _note(SUBTITLES[title]), grid]))
    if len(drawn) >= PANELS:
        parts.append(_note(f"Only {PANELS} charts are drawn; the other records are in steps.jsonl."))
    return join([_note(explained(kinds)), *parts]) if parts else NOTHING


def _note(sentence: str) -> Html:
    return element("p", {"class": "said"}, text(sentence))


def explained(kinds: Sequence[Variant]) -> str:
    """How to read the curves: what bands, thin lines and points are."""
    runs = [run for kind in kinds for run in kind.runs]
    width = window(max(len(run.steps) for run in runs))
    several = [len(kind.runs) for kind in kinds if len(kind.runs) > 1]
    sentences = []
    if several:
        counts = " or ".join(str(count) for count in sorted(set(several)))
        sentences.append(f"Lines are means over {counts} runs that differ in their seed.")
        sentences.append("Bands reach from the least to the greatest of them.")
    if width > 1:
        sentences.append(f"Lines are smoothed: each point is the mean over the {width} steps around it.")
        if len(several) < len(kinds):
            sentences.append("Thin lines are single steps.")
    if any(run.evaluations for run in runs):
        ends = "least and greatest run" if several else "95 % interval over examples"
        sentences.append(f"Points are evaluations on held-out examples with {ends}.")
    if any(run.validations for run in runs):
        sentences.append("Open points on a dotted line are evaluations on the validation split.")
    return " ".join(sentences)


def _without_repeats(every: list[Panel]) -> list[Panel]:
    """Without the rewards of single agents where they are the joint reward: they would be drawn twice."""
    joint = {curve.variant: curve.ys for panel in every if panel.pattern == "reward" for curve in panel.curves}
    return [
        panel
        for panel in every
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
    meaning = panel.meaning
    unit = element("span", {"class": "unit"}, text(f" {meaning.unit}")) if meaning.unit else NOTHING
    caption = [
        element("h4", {}, text(meaning.title), unit),
        element("p", {}, text(meaning.text)) if meaning.text else NOTHING,
        element("ul", {"class": "legend"}, *legend) if legend else NOTHING,
    ]
    chart = draw_panel(panel, look, len(kinds) > 1, described(panel, called), mark)
    return element("figure", {}, element("figcaption", {}, *caption), chart)


def _entry(look: Look, name: str, width: float = 2.5) -> Html:
    return element("li", {}, swatch(look, width), text(name))


def outcomes(kinds: Sequence[Variant]) -> Html:
    """For each kind of run its held-out results as a table, and beside it as a picture."""
    pairs = [[results(kind), _changes(kind)] for kind in kinds]
    return join(element("div", {"class": "outcome"}, *pair) for pair in pairs if any(pair))


def _changes(kind: Variant) -> Html:
    rows = changes(kind)
    if not rows:
        return NOTHING
    words = "; ".join(f"{name} from {before[0]:.0f} to {after[0]:.0f} percent" for name, before, after in rows)
    chart = draw_changes(rows, f"Held-out results before and after training. {words}.")
    caption = element("p", {}, text("Open points: before training. Full points: after."))
    return element("figure", {}, element("figcaption", {}, caption), chart)


def scheme_shares(kinds: Sequence[Variant]) -> Html:
    """A stacked area for each kind of run whose steps name schemes of cooperation."""
    figures = [_shares(kind, f"schemes{number}") for number, kind in enumerate(kinds)]
    if not any(figures):
        return NOTHING
    note = "The share of programs in which each way of working together was recognized. Several may hold at once, so "
    return join([_note(f"{note}shares can add up to more than 1."), *figures])


def _shares(kind: Variant, mark: str) -> Html:
    every = {name.replace("_", " "): curve for name, curve in shares(kind).items()}
    if not every:
        return NOTHING
    # "none" is the absence of a scheme: it goes on top, in a quiet color.
    names = [name for name in dict.fromkeys([*SCHEMES, *every]) if name in every]
    names.sort(key=lambda name: name == "none")
    curves = {name: every[name] for name in names}
    colors = {name: QUIET if name == "none" else number for number, name in enumerate(names, start=1)}
    legend = element("ul", {"class": "legend"}, *(_entry(Look(colors[name]), name, width=10) for name in names))
    words = "; ".join(f"{name} from {c.ys[0]:.0%} to {c.ys[-1]:.0%}" for name, c in curves.items())
    chart = draw_shares(curves, colors, f"Shares of schemes of cooperation over the steps. {words}.", mark)
    caption = element("figcaption", {}, element("h4", {}, text(kind.name)), legend)
    return element("figure", {"class": "whole"}, caption, chart)
