"""The rows of a comparison as a table of the terminal, as Markdown, as CSV, and as a record for JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from madrigal.compare.rows import RETURN, SPEED, TIME, Row
from madrigal.evaluation.statistics import Interval
from madrigal.report.progress import PERCENTS, shown

DIGITS = {SPEED: 0, TIME: 2}
LESS, MORE = 0.9, 1.1  # times the reference's tokens at test: what lies between them counts as the same
PADDING = 2  # blanks that a column of the terminal's table has of its own
HINT = "Intervals are over seeds and examples; p is of a paired test over examples, corrected for all rows (Holm)."


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
    }


def as_tables(rows: Sequence[Row], width: int) -> list[Table]:
    """For a terminal so many columns wide: one table, or two where that would not fit; intervals where they matter."""
    lines = _cells(rows, brief=True)
    head = lines[0]
    widths = [max(map(len, column)) + PADDING for column in zip(*lines, strict=True)]
    split = len(head) if sum(widths) <= width else head.index(RETURN)
    tables = [_table([line[:split] for line in lines])]
    if split < len(head):
        tables.append(_table([[line[0], *line[split:]] for line in lines]))
    tables[0].title = f"{_title(rows)}, mean [95 % interval]"
    tables[-1].caption = escape(f"{budget_of(rows)}\n{HINT}")
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
    head, *body = _cells(rows)
    lines = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]
    about = [f"- {row.name}: {row.what}" for row in rows if row.what]
    blocks = [f"{_title(rows)}, mean and 95 % interval.", "\n".join(lines), "\n".join(about), budget_of(rows), HINT]
    return "\n\n".join(block for block in blocks if block) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """One line per row, means and ends of intervals in columns of their own."""
    names = list(dict.fromkeys(name for row in rows for name in row.columns))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = [f"{name} {end}" for name in [*names, "difference"] for end in ("mean", "low", "high")]
    writer.writerow(["name", "seeds", *ends, "p", "tokens per answer", "times", "trained tokens", "updates"])
    for row in rows:
        intervals = [*(row.columns.get(name) for name in names), row.versus.difference if row.versus else None]
        cells = [end for x in intervals for end in ((x.mean, x.low, x.high) if x else ("",) * 3)]
        p = row.p if row.versus else ""
        writer.writerow([row.name, row.seeds, *cells, p, row.tokens, row.times, row.trained_tokens, row.updates])
    return out.getvalue()


def budget_of(rows: Sequence[Row]) -> str:
    """What training and testing took, in two sentences; the first row is what the others are measured by."""
    first = rows[0]
    trained = [_training(row, first) for row in rows if row.updates]
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
    lines = [["", *(["seeds"] if uneven else []), *columns, "tokens", *(["difference", "p"] if tested else [])]]
    for row in rows:
        cells = [_cell(row.columns.get(name), DIGITS.get(name, 1), brief=brief and name != RETURN) for name in columns]
        times = "" if LESS <= row.times <= MORE else f" (x{row.times:.1f})"
        line = [row.name, *([str(row.seeds)] if uneven else []), *cells, f"{row.tokens:.0f}{times}"]
        if tested:
            line += [_cell(row.versus.difference, 1), f"{row.p:.3g}"] if row.versus else ["", ""]
        lines.append(line)
    return lines


def _cell(interval: Interval | None, digits: int, *, brief: bool = False) -> str:
    if interval is None:
        return ""
    mean, low, high = (f"{value:.{digits}f}" for value in (interval.mean, interval.low, interval.high))
    return mean if brief or low == high else f"{mean} [{low}, {high}]"
