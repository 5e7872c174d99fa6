"""What a team is worth: tables of held-out results and comparisons, the settings that led there, and what it took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from madrigal.report.curves import SPEEDS, Ends, agents, held_out, is_measure, together
from madrigal.report.markup import NOTHING, Html, element, table, text
from madrigal.report.progress import PERCENTS, shown
from madrigal.runs.files import read_object
from madrigal.runs.read import Run, is_number, order, task_of
from madrigal.runs.variants import Variant, in_words
from madrigal.types import ConfigError

TIMES = ("before", "warm", "after")
WARM = {  # what the first line of warm.jsonl is shown as
    "examples": "examples",
    "samples": "joint answers to each",
    "kept": "learned from",
    "return_percent": "return % of all",
    "kept_return_percent": "return % of those",
}
BY_SIZE = "by the model's size"  # a rate that no setting names
FACTS = {
    "Topology": "topology.kind",
    "Algorithm": "algorithm.name",
    "Group width": "algorithm.width",
    "KL weight": "algorithm.kl",
    "Steps": "steps",
    "Examples a step": "prompts",
    "Learning rate": "optimizer.lr",
    "LoRA rank": "team.policy.lora.rank",
    "Temperature": "sampling.temperature",
    "New tokens": "sampling.max_new_tokens",
    "Seed": "seed",
}


def facts(runs: Sequence[Run]) -> dict[str, str]:
    """The settings that matter most and what the runs took, each with all its values."""
    settings = [in_words(run.settings) for run in runs]
    settings = [s | {"optimizer.lr": BY_SIZE} if s.get("optimizer.lr") == "none" else s for s in settings]
    named = [value for s in settings for key, value in s.items() if key.startswith("team.") and key.endswith(".model")]
    values = {
        "Task": [task_of(run) for run in runs],
        "Agents": [", ".join(agents(runs))],
        "Models": list(filter(None, named)),  # seats without an endpoint name none of its models
        **{label: [s[key] for s in settings if key in s] for label, key in FACTS.items()},
    }
    origins = [origin(run) for run in runs]
    values |= {label: [o[label] for o in origins if label in o] for labels in origins for label in labels}
    return {label: ", ".join(dict.fromkeys(found)) for label, found in values.items() if any(found)}


def origin(run: Run) -> dict[str, str]:
    """Date, version, machine, time and tokens of a run; what its files lack is left out."""
    sessions = _sessions(run)
    machines = [_dict(session.get("machine")) for session in sessions]
    seconds, tokens = (_total(run, key) for key in ("seconds", "tokens"))
    values = {
        "Date": _distinct(str(session.get("date", ""))[:10] for session in sessions),
        "Madrigal": _distinct(str(session.get("madrigal", "")) for session in sessions),
        "Hardware": _distinct(map(_hardware, machines)),
        "Training time": duration(seconds) if seconds else "",
        "Tokens": f"{tokens:,.0f}" if tokens else "",
    }
    return {label: value for label, value in values.items() if value}


def _sessions(run: Run) -> list[Mapping[str, Any]]:
    """The stretches of a run that run.json lists: the start and every resumption."""
    try:
        about = read_object(run.folder / "run.json")
    except ConfigError:
        return []
    return [session for session in _list(about.get("sessions")) if isinstance(session, dict)]


def _hardware(machine: Mapping[str, Any]) -> str:
    device, cores = str(machine.get("device", "")), machine.get("cores")
    return f"{cores} cores" if device == "cpu" and is_number(cores) else device


def _total(run: Run, key: str) -> float:
    values = (line.record.get(key) for line in run.steps)
    return sum(value for value in values if is_number(value) and 0 <= value < 1e15)


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))


def duration(seconds: float) -> str:
    """A time in its two largest units.

    >>> duration(59.6), duration(3725), duration(200000)
    ('60 s', '1 h 2 min', '55 h 33 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {int(seconds) % 60} s"


def all_settings(kinds: Sequence[Variant]) -> Html:
    """Every setting of every kind of run."""
    columns = [in_words(kind.runs[0].settings) for kind in kinds]
    names = dict.fromkeys(key for column in columns for key in column)
    rows = [(text(name), [text(column.get(name, "")) for column in columns]) for name in names]
    return table("All settings", ["Setting", *(kind.name or "Value" for kind in kinds)], rows)


def headline(kinds: Sequence[Variant]) -> Html:
    """The held-out return of each kind of run, before and after training and its warm start, in large figures."""
    cards = [card for kind in kinds for card in _card(kind)]
    return element("div", {"class": "cards"}, *cards) if cards else NOTHING


def _card(kind: Variant) -> Iterator[Html]:
    ends = {when: value for when in TIMES if (value := _held_out(kind.runs, when, "return_percent"))}
    figures = [
        element(
            "p", {"class": "figure"}, element("span", {}, text(when)), text(f"{mean:.1f} %"), _interval(low, high, 1)
        )
        for when, (mean, low, high) in ends.items()
    ]
    if figures:
        yield element("div", {"class": "card"}, element("h3", {}, text(kind.name or "Held-out return")), *figures)


def changes(kind: Variant) -> list[tuple[str, Ends, Ends]]:
    """The components in percent, with what they were before and after training."""
    rows = []
    for name in dict.fromkeys(["return_percent", *(name for name in _components(kind.runs) if name in PERCENTS)]):
        before, after = (_held_out(kind.runs, when, name) for when in ("before", "after"))
        if before and after and all(map(is_measure, (*before, *after))):
            rows.append((name.removesuffix("_percent").replace("_", " "), before, after))
    return rows


def results(kind: Variant) -> Html:
    """A table of the held-out results of one kind of run; nothing where there are none."""
    every = dict.fromkeys(when for run in kind.runs for when in run.evaluations)
    times = [when for when in TIMES if when in every] or list(every)[-1:]
    if not times:
        return NOTHING
    rows = [_row(kind, "return %", "return_percent", times, 1)]
    for name in _components(kind.runs):
        if name != "return_percent":
            label, digits = (f"{name} %", 1) if name in PERCENTS else (name, 2)
            rows.append(_row(kind, label, name, times, digits))
    timed = [key for key in SPEEDS if any(_held_out(kind.runs, when, key) for when in times)]
    rows += [_row(kind, SPEEDS[key], key, times, 2) for key in timed]
    return table(_caption(kind), ["", *times, *(["change"] if _changed(times) else [])], rows)


def _changed(times: Sequence[str]) -> bool:
    return times[0] == "before" and times[-1] == "after"


def warm_start(kind: Variant) -> Html:
    """What a warm start learned from, and its cross entropy in each epoch; means over runs."""
    values: dict[str, list[float]] = {}
    for run in kind.runs:
        for line in run.warm:
            for name, value in _warm_figures(line.record):
                values.setdefault(name, []).append(value)
    rows = [(text(name), [text(f"{fmean(several):.4g}")]) for name, several in values.items()]
    head = f"{kind.name}. " if kind.name else ""
    caption = f"{head}Warm start: what was learned from, and cross entropy in nats per token in each epoch."
    return table(caption, ["", ""], rows) if rows else NOTHING


def _warm_figures(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    names = {key: label for key, label in WARM.items() if is_measure(record.get(key))}
    yield from ((label, record[key]) for key, label in names.items())
    if is_measure(epoch := record.get("epoch")):
        losses = {key: value for key, value in record.items() if key.endswith("/loss") and is_measure(value)}
        yield from ((f"epoch {epoch + 1:.0f}, {key.split('/')[1]}", value) for key, value in losses.items())


def validations(kind: Variant) -> Html:
    """The returns on the validation split, by which weights were chosen, apart from those on the test split."""
    names = dict.fromkeys(when for run in kind.runs for when in run.validations)
    rows = []
    for when in sorted(names, key=order):
        found = [held_out(run.validations[when], "return_percent") for run in kind.runs if when in run.validations]
        if known := [value for value in found if value and all(map(is_measure, value))]:
            rows.append((text(when.replace("-", " ")), [_cell(together(known), 1)]))
    head = f"{kind.name}. " if kind.name else ""
    return (
        table(f"{head}Returns on the validation split, after so many steps.", ["", "return %"], rows)
        if rows
        else NOTHING
    )


def _components(runs: Iterable[Run]) -> dict[str, None]:
    """All components, the known ones first."""
    names = dict.fromkeys(name for run in runs for result in run.evaluations.values() for name in result["components"])
    return dict.fromkeys([*shown(names), *names])


def _caption(kind: Variant) -> str:
    counts = {result["examples"] for run in kind.runs for result in run.evaluations.values()}
    name = f"{kind.name}. " if kind.name else ""
    head = f"{name}Held-out results on {' or '.join(map(str, sorted(counts)))} examples"
    if len(kind.runs) == 1:
        return f"{head}: mean and 95 % bootstrap interval over the examples."
    seeds = ", ".join(str(run.settings.get("seed", "?")) for run in kind.runs)
    return f"{head}: mean of {len(kind.runs)} runs (seeds {seeds}), least and greatest of them."


def _held_out(runs: Sequence[Run], when: str, name: str) -> Ends | None:
    values = [held_out(run.evaluations[when], name) for run in runs if when in run.evaluations]
    return together(known) if (known := [value for value in values if value]) else None


def _row(kind: Variant, label: str, name: str, times: Sequence[str], digits: int) -> tuple[Html, list[Html]]:
    values = [_held_out(kind.runs, when, name) for when in times]
    cells = [_cell(value, digits) for value in values]
    if _changed(times):
        first, last = values[0], values[-1]
        cells.append(text(f"{last[0] - first[0]:+.{digits}f}") if first and last and name not in SPEEDS else NOTHING)
    return text(label.replace("_", " ").replace("/", ", ")), cells


def _cell(value: Ends | None, digits: int) -> Html:
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
        cells = {str(name): _dict(cell) for name, cell in _dict(row.get("columns")).items()}
        body.append((text(row.get("name", "")), [_compared(cells.get(name, {})) for name in columns]))
    budget = record.get("budget")
    caption = f"Compared at equal budget: {budget}." if budget else "Compared."
    return table(f"{caption} Mean and interval.", ["", *(name.replace("_", " ") for name in columns)], body)


def _compared(cell: Mapping[str, Any]) -> Html:
    mean, low, high = (cell.get(key) for key in ("mean", "low", "high"))
    if not is_number(mean):
        return NOTHING
    return _cell((mean, low, high) if is_number(low) and is_number(high) else (mean, mean, mean), 2)


def _dict(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
