"""The rows of a comparison as a table of the terminal, as Markdown, as CSV, and as a record for JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from madrigal.compare.rows import LESS, MORE, RETURN, SEEDS, SPEED, TIME, WORDS, Budget, Row
from madrigal.evaluation.statistics import Interval
from madrigal.report.progress import PERCENTS, shown

DIGITS = {SPEED: 0, TIME: 2}
PADDING = 2  # blanks that a column of the terminal's table has of its own
HINT = "Intervals are over seeds and examples; p is of a paired test over examples, corrected for all rows (Holm)."
BUDGETS = "Spent, as a multiple of the first row: the difference where both had spent as much, - where it is not known"


def as_record(rows: Sequence[Row]) -> dict[str, Any]:
    """All figures, every column of every row, for JSON."""
    return {"budget": budget_of(rows).removesuffix("."), "rows": [_record(row) for row in rows]}


def _record(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "what": row.what,
        "seeds": row.seeds,
        "columns": {name: asdict(interval) for name, interval in row.columns.items()},
        "tokens_per_answer": row.tokens,
        "times_reference": row.times,
        "trained_tokens": row.trained_tokens,
        "updates": row.updates,
        "return_minus_reference": asdict(row.versus.difference) if row.versus else None,
        "p": row.p if row.versus else None,
        "p_uncorrected": row.versus.p if row.versus else None,
        "noise": {pair: asdict(interval) for pair, interval in row.noise.items()},
        "within_noise": row.is_noise if row.noise else None,
        "budgets": {kind: asdict(budget) for kind, budget in row.budgets.items()},
    }


def as_tables(rows: Sequence[Row], width: int) -> list[Table]:
    """For a terminal so many columns wide: one table, or two where that would not fit; intervals where they matter.

    The last one is of budgets, where there is something to compare.
    """
    lines = _cells(rows, brief=True)
    head = lines[0]
    widths = [max(map(len, column)) + PADDING for column in zip(*lines, strict=True)]
    split = len(head) if sum(widths) <= width else head.index(RETURN)
    tables = [_table([line[:split] for line in lines])]
    if split < len(head):
        tables.append(_table([[line[0], *line[split:]] for line in lines]))
    tables[0].title = f"{_title(rows)}, mean [95 % interval]"
    if len(rows) > 1:
        tables.append(_table(_spending(rows)))
        tables[-1].title = BUDGETS
    tables[-1].caption = escape("\n".join(_notes(rows)))
    return tables


def _table(lines: Sequence[Sequence[str]]) -> Table:
    head, *body = lines
    table = Table(title_justify="left", caption_justify="left", box=None, padding=(0, PADDING // 2))
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left")
    for row in body:
        table.add_row(*map(escape, row), style="bold" if row is body[0] else "")
    return table


def as_markdown(rows: Sequence[Row]) -> str:
    """A table with all intervals, what each row is, and the budget."""
    about = [f"- {row.name}: {row.what}" for row in rows if row.what]
    blocks = [f"{_title(rows)}, mean and 95 % interval.", _in_markdown(_cells(rows)), "\n".join(about)]
    blocks += [f"{BUDGETS}.", _in_markdown(_spending(rows))] if len(rows) > 1 else []
    return "\n\n".join(block for block in [*blocks, *_notes(rows)] if block) + "\n"


def _in_markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))


def _notes(rows: Sequence[Row]) -> list[str]:
    return [noise_of(rows), budget_of(rows), HINT] if len(rows) > 1 else [budget_of(rows), HINT]


def as_csv(rows: Sequence[Row]) -> str:
    """One line per row, means and ends of intervals in columns of their own."""
    names = list(dict.fromkeys(name for row in rows for name in row.columns))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    kinds = list(rows[0].budgets)
    intervals = [*names, "difference", *(f"{pair} noise" for pair in (SEEDS, WORDS)), *(f"equal {x}" for x in kinds)]
    ends = [f"{name} {end}" for name in intervals for end in ("mean", "low", "high")]
    spent = [f"{word} {kind}" for kind in kinds for word in ("spent", "times")]
    writer.writerow(["name", "seeds", *ends, "p", "tokens per answer", "times", "trained tokens", "updates", *spent])
    for row in rows:
        values = [*(row.columns.get(name) for name in names), row.versus.difference if row.versus else None]
        values += [*(row.noise.get(pair) for pair in (SEEDS, WORDS)), *(row.budgets[x].difference for x in kinds)]
        cells = [end for x in values for end in ((x.mean, x.low, x.high) if x else ("",) * 3)]
        budgets = [value for x in kinds for value in (row.budgets[x].spent, row.budgets[x].times)]
        costs = [row.p if row.versus else "", row.tokens, row.times, row.trained_tokens, row.updates]
        writer.writerow([row.name, row.seeds, *cells, *costs, *budgets])
    return out.getvalue()


def noise_of(rows: Sequence[Row]) -> str:
    """The A/A pairs in words, and whose difference is no larger."""
    first, *others = rows
    pairs = []
    if by_seeds := next((row.noise[SEEDS] for row in others if SEEDS in row.noise), None):
        pairs.append(f"{first.name} by as many other seeds {_spread(by_seeds)} (95 %)")
    for trained in (False, True):
        same = [row.noise[WORDS] for row in others if WORDS in row.noise and (row.updates > 0) == trained]
        if same:
            pairs.append(f"{'' if trained else 'un'}trained by other words {_cell(same[0], 1)}")
    if not pairs:
        return "Noise: not known with one seed and no reworded row; a small difference may be none."
    within = [row.name for row in others if row.is_noise]
    return (
        f"Noise, a method against itself: {'; '.join(pairs)}. Differences no larger than that: "
        f"{'; '.join(within) or 'none'}."
    )


def _spread(pair: Interval) -> str:
    return f"±{max(abs(pair.low), abs(pair.high)):.1f}"


def budget_of(rows: Sequence[Row]) -> str:
    """What training and testing took, in two sentences; the first row is what the others are measured by."""
    first = rows[0]
    trained = [_training(row, first) for row in rows if row.updates and not row.of]
    over = [f"{row.name} {row.times:.1f} times as many" for row in rows if row.times > MORE]
    return (
        f"Trained: {'; '.join(trained) or 'none'}. Tested: {first.name} {first.tokens:.0f} generated tokens an answer, "
        f"all agents together; more than that: {', '.join(over) or 'none'}."
    )


def _training(row: Row, first: Row) -> str:
    compared = row is not first and first.trained_tokens
    share = f", {row.trained_tokens / first.trained_tokens:.2f} times as many" if compared else ""
    return f"{row.name} {row.updates:.0f} steps with {row.trained_tokens:,.0f} generated tokens{share}"


def _title(rows: Sequence[Row]) -> str:
    seeds = sorted({row.seeds for row in rows})
    return f"On the same held-out examples, {' or '.join(map(str, seeds))} seed{'s' if seeds != [1] else ''}"


def _cells(rows: Sequence[Row], *, brief: bool = False) -> list[list[str]]:
    """A head and a line per row: the paper's columns, then the test against the first row; `brief` without intervals.

    The paper's columns: speed, time, the components in percent of the best (a task's own where there are none), return.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.columns))
    passed = [name for name in names if name.startswith("pass@")]
    parts = [name for name in shown(names) if name not in (SPEED, TIME, RETURN, *passed)]
    percents = [name for name in parts if name in PERCENTS]
    columns = [*(name for name in (SPEED, TIME) if name in names), *(percents or parts), *passed, RETURN]
    tested, uneven = any(row.versus for row in rows), len({row.seeds for row in rows}) > 1
    noisy = [pair for pair in (SEEDS, WORDS) if any(pair in row.noise for row in rows)]
    test = ["difference", "p", *([f"noise: {', '.join(noisy)}"] if noisy else [])]
    lines = [["", *(["seeds"] if uneven else []), *columns, "tokens", *(test if tested else [])]]
    for row in rows:
        cells = [_cell(row.columns.get(name), DIGITS.get(name, 1), brief=brief and name != RETURN) for name in columns]
        times = "" if LESS <= row.times <= MORE else f" (x{row.times:.1f})"
        line = [row.name, *([str(row.seeds)] if uneven else []), *cells, f"{row.tokens:.0f}{times}"]
        if tested:
            line += [_cell(row.versus.difference, 1), f"{row.p:.3g}"] if row.versus else ["", ""]
            line += [_noise(row, noisy)] if noisy else []
        lines.append(line)
    return lines


def _noise(row: Row, pairs: Sequence[str]) -> str:
    """How large each A/A difference may be, in the order of the head, and whether that explains the row's own."""
    if not row.versus:
        return ""
    cells = [_spread(row.noise[pair]) if pair in row.noise else "-" for pair in pairs]
    return ", ".join(cells) + (" (within)" if row.is_noise else "")


def _spending(rows: Sequence[Row]) -> list[list[str]]:
    """A head and a line per row: each budget, and the difference of returns where both sides have spent as much."""
    first, *others = rows
    lines = [["", *first.budgets], [first.name, *(f"{budget.spent:,.0f}" for budget in first.budgets.values())]]
    return lines + [[row.name, *map(_budget, row.budgets.values())] for row in others]


def _budget(budget: Budget) -> str:
    spent = f"{budget.spent:,.0f}" if budget.times is None else f"x{budget.times:.2f}"
    return f"{spent}: {_cell(budget.difference, 1) or '-'}"


def _cell(interval: Interval | None, digits: int, *, brief: bool = False) -> str:
    if interval is None:
        return ""
    mean, low, high = (f"{value:.{digits}f}" for value in (interval.mean, interval.low, interval.high))
    return mean if brief or low == high else f"{mean} [{low}, {high}]"
