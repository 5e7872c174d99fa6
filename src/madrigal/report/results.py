"""What a team is worth: tables of held-out results and of comparisons, and the settings that led there.

Knows: evaluations, comparisons and settings as files hold them. Does not know: curves, transcripts, pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from madrigal.report.curves import agents, held_out, is_measure, together
from madrigal.report.markup import NOTHING, Html, element, table, text
from madrigal.report.origin import origin
from madrigal.report.progress import PERCENTS, shown
from madrigal.runs.read import Run, is_number, task_of
from madrigal.runs.variants import Variant, flat

Ends = tuple[float, float, float]  # mean, low, high
TIMES = ("before", "after")
SPEEDS = {"tokens_per_second": "tokens/s", "response_seconds": "response time, s"}
FACTS = {
    "Topology": "topology.kind",
    "Algorithm": "algorithm.name",
    "Group width": "algorithm.width",
    "KL weight": "algorithm.kl",
    "Steps": "steps",
    "Examples a step": "prompts",
    "Learning rate": "optimiser.lr",
    "LoRA rank": "team.policy.lora.rank",
    "Temperature": "sampling.temperature",
    "New tokens": "sampling.max_new_tokens",
    "Seed": "seed",
}


def facts(runs: Sequence[Run]) -> dict[str, str]:
    """The settings that matter most and what the runs took, each with all its values."""
    settings = [dict(flat(run.settings)) for run in runs]
    found = {
        "Task": [task_of(run) for run in runs],
        "Agents": [", ".join(agents(runs))],
        "Models": [value for one in settings for key, value in one.items() if _names_a_model(key)],
        **{label: [one[key] for one in settings if key in one] for label, key in FACTS.items()},
    }
    origins = [origin(run) for run in runs]
    found |= {label: [one[label] for one in origins if label in one] for one in origins for label in one}
    return {label: ", ".join(dict.fromkeys(values)) for label, values in found.items() if any(values)}


def _names_a_model(key: str) -> bool:
    return key.startswith("team.") and key.endswith(".model")


def all_settings(kinds: Sequence[Variant]) -> Html:
    """Every setting of every kind of run."""
    columns = [dict(flat(kind.runs[0].settings)) for kind in kinds]
    names = dict.fromkeys(key for column in columns for key in column)
    rows = [(text(name), [text(column.get(name, "")) for column in columns]) for name in names]
    return table("All settings", ["Setting", *(kind.name or "Value" for kind in kinds)], rows)


def headline(kinds: Sequence[Variant]) -> Html:
    """The held-out return of each kind of run, before and after training, in large figures."""
    cards = [card for kind in kinds for card in _card(kind)]
    return element("div", {"class": "cards"}, *cards) if cards else NOTHING


def _card(kind: Variant) -> Iterator[Html]:
    values = {when: value for when in TIMES if (value := _held(kind.runs, when, "return_percent"))}
    if not values:
        return
    figures = [
        element(
            "p", {"class": "figure"}, element("span", {}, text(when)), text(f"{mean:.1f} %"), _interval(low, high, 1)
        )
        for when, (mean, low, high) in values.items()
    ]
    yield element("div", {"class": "card"}, element("h3", {}, text(kind.name or "Held-out return")), *figures)


def changes(kind: Variant) -> list[tuple[str, Ends, Ends]]:
    """The components in percent, with what they were before and after training."""
    names = ["return_percent", *(name for name in _components(kind.runs) if name in PERCENTS)]
    found = []
    for name in dict.fromkeys(names):
        before, after = (_held(kind.runs, when, name) for when in TIMES)
        if before and after and all(map(is_measure, (*before, *after))):
            found.append((name.removesuffix("_percent").replace("_", " "), before, after))
    return found


def results(kind: Variant) -> Html:
    """A table of the held-out results of one kind of run; nothing where there are none."""
    if not any(run.evaluations for run in kind.runs):
        return NOTHING
    times = [when for when in TIMES if any(when in run.evaluations for run in kind.runs)]
    times = times or list(dict.fromkeys(when for run in kind.runs for when in run.evaluations))[-1:]
    names = list(_components(kind.runs))
    rows = [_row(kind, "return %", "return_percent", times, 1)]
    for name in names:
        if name in PERCENTS and name != "return_percent":
            rows.append(_row(kind, f"{name} %", name, times, 1))
        elif name != "return_percent":
            rows.append(_row(kind, name, name, times, 2))
    rows += [_speed(kind, key, label, times) for key, label in SPEEDS.items()]
    columns = ["", *times, *(["change"] if len(times) == len(TIMES) else [])]
    return table(_caption(kind), columns, rows)


def _components(runs: Iterable[Run]) -> dict[str, None]:
    """All components, the known ones first."""
    names = dict.fromkeys(name for run in runs for result in run.evaluations.values() for name in result["components"])
    return dict.fromkeys([*shown(names), *names])


def _caption(kind: Variant) -> str:
    counts = {result["examples"] for run in kind.runs for result in run.evaluations.values()}
    examples = " or ".join(str(count) for count in sorted(counts))
    name = f"{kind.name}. " if kind.name else ""
    if len(kind.runs) == 1:
        return f"{name}Held-out results on {examples} examples: mean and 95 % bootstrap interval over the examples."
    seeds = ", ".join(str(run.settings.get("seed", "?")) for run in kind.runs)
    return (
        f"{name}Held-out results on {examples} examples: mean of {len(kind.runs)} runs (seeds {seeds}), least and "
        "greatest of them."
    )


def _held(runs: Sequence[Run], when: str, name: str) -> tuple[float, float, float] | None:
    values = [held_out(run.evaluations[when], name) for run in runs if when in run.evaluations]
    known = [value for value in values if value]
    return together(known) if known else None


def _row(kind: Variant, label: str, name: str, times: Sequence[str], digits: int) -> tuple[Html, list[Html]]:
    values = [_held(kind.runs, when, name) for when in times]
    cells = [_cell(value, digits) for value in values]
    if len(times) == len(TIMES):
        first, last = values
        cells.append(text(f"{last[0] - first[0]:+.{digits}f}") if first and last else NOTHING)
    return text(label.replace("_", " ").replace("/", ", ")), cells


def _speed(kind: Variant, key: str, label: str, times: Sequence[str]) -> tuple[Html, list[Html]]:
    """Speeds have no interval of their own."""
    cells = []
    for when in times:
        values = [run.evaluations[when].get(key) for run in kind.runs if when in run.evaluations]
        known = [(float(value),) * 3 for value in values if is_number(value)]
        cells.append(_cell(together(known), 2) if known else NOTHING)
    return text(label), cells + [NOTHING] * (len(times) == len(TIMES))


def _cell(value: tuple[float, float, float] | None, digits: int) -> Html:
    if value is None:
        return NOTHING
    mean, low, high = value
    return Html(text(f"{mean:.{digits}f}") + (_interval(low, high, digits) if low != mean or high != mean else ""))


def _interval(low: float, high: float, digits: int) -> Html:
    return element("span", {"class": "interval"}, text(f" [{low:.{digits}f}, {high:.{digits}f}]"))


def comparison(record: Mapping[str, Any]) -> Html:
    """A comparison at equal budget as it was written: rows of named figures with their intervals.

    Rows or cells of another form are shown as empty.
    """
    rows = [row for row in _list(record.get("rows")) if isinstance(row, dict)]
    if not rows:
        return NOTHING
    columns = list(dict.fromkeys(str(name) for row in rows for name in _dict(row.get("columns"))))
    body = []
    for row in rows:
        held = {str(name): _dict(value) for name, value in _dict(row.get("columns")).items()}
        body.append((text(row.get("name", "")), [_compared(held.get(name, {})) for name in columns]))
    budget = record.get("budget")
    caption = f"Compared at equal budget: {budget}." if budget else "Compared."
    return table(f"{caption} Mean and interval.", ["", *(name.replace("_", " ") for name in columns)], body)


def _compared(cell: Mapping[str, Any]) -> Html:
    mean, low, high = (cell.get(key) for key in ("mean", "low", "high"))
    if not is_number(mean):
        return NOTHING
    if is_number(low) and is_number(high):
        return _cell((mean, low, high), 2)
    return _cell((mean, mean, mean), 2)


def _dict(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
