"""The table as text: nothing is lost, and what was spent stands beside what was earned."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

from rich.console import Console

from fakes.made import said
from madrigal.compare.rows import Played, Row, tabulate
from madrigal.compare.table import as_csv, as_markdown, as_record, as_tables, budget_of


def talk(value: float, tokens: int, seed: int = 0, **training: int) -> Played:
    records = [
        said(f"x{n}", value + n, (tokens, tokens), structure=value, level=2.0, reward=1.0, **{"words/a": 9.0})
        for n in range(3)
    ]
    return Played(records, seed, seconds=0.25, tokens_per_second=400.0, **training)


def table() -> list[Row]:
    """A team, one that spoke twice as much, and one that was trained on a little more."""
    return tabulate(
        {
            "team": [talk(80.0, 50, trained_tokens=1000, updates=4)],
            "discussion": [talk(70.0, 100)],
            "tuned": [talk(60.0, 20, trained_tokens=1040, updates=4)],
        },
        "team",
        several=(),
    )


def test_the_budget_says_what_training_took_and_who_spent_more_at_test() -> None:
    assert budget_of(table()) == (
        "Trained: team 4 steps with 1,000 generated tokens; tuned 4 steps with 1,040 generated tokens, 1.04 times as "
        "many. Tested: team 100 generated tokens an answer, all agents together; more than that: discussion 2.0 times "
        "as many."
    )


def test_a_row_that_spent_more_or_less_is_marked_in_the_table() -> None:
    lines = as_markdown(table()).splitlines()
    head = [cell.strip() for cell in lines[2].split("|")]
    tokens = head.index("tokens")
    cells = {line.split("|")[1].strip(): line.split("|")[tokens].strip() for line in lines[4:7]}
    assert cells == {"team": "100", "discussion": "200 (x2.0)", "tuned": "40 (x0.4)"}


def test_markdown_has_the_papers_columns_with_intervals_and_the_test() -> None:
    text = as_markdown(table())
    head, _, team, discussion, tuned = text.splitlines()[2:7]
    assert head == "|  | tokens/s | response s | structure | return % | tokens | difference | p |"
    assert team.startswith("| team | 400 | 0.25 | 80.0 | 81.0 [80.") and team.endswith("| 100 |  |  |")
    assert discussion.endswith("| 200 (x2.0) | -10.0 | 0.5 |") and tuned.endswith("| -20.0 | 0.5 |")
    assert budget_of(table()) in text and text.startswith("On the same held-out examples, 1 seed, mean and 95 %")


def test_markdown_says_what_each_row_is_where_it_is_known() -> None:
    row, *_ = table()
    assert "\n- team: trained together\n" in as_markdown(
        [Row(row.name, row.columns, row.tokens, what="trained together")]
    )
    assert "\n- " not in as_markdown(table())


def test_rows_of_fewer_seeds_are_marked_where_seeds_differ() -> None:
    rows = tabulate({"team": [talk(80.0, 50), talk(81.0, 50, seed=1)], "other": [talk(70.0, 50)]}, "team")
    text = as_markdown(rows)
    assert text.startswith("On the same held-out examples, 1 or 2 seeds")
    assert "|  | seeds | tokens/s |" in text and "| team | 2 | 400 |" in text and "| other | 1 | 400 |" in text


def test_brackets_in_a_name_are_shown() -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(*as_tables([replace(row, name=f"{row.name} [red]") for row in table()], 140))
    lines = [line.split("  ")[0].strip() for line in console.export_text().splitlines()]
    assert {"team [red]", "discussion [red]", "tuned [red]"} <= set(lines)


def test_a_task_without_percents_shows_its_own_components() -> None:
    own = Played([said("x", 50.0, jokes=3.0, reward=0.5, **{"words/a": 9.0})])
    assert as_markdown(tabulate({"team": [own]}, "team")).splitlines()[2] == "|  | jokes | return % | tokens |"


def test_json_holds_every_figure_of_every_row() -> None:
    record = json.loads(json.dumps(as_record(table())))
    team, discussion, tuned = record["rows"]
    assert f"{record['budget']}." == budget_of(table())
    assert list(team["columns"]) == ["tokens/s", "response s", "structure", "level", "reward", "return %"]
    assert team["columns"]["structure"] == {"mean": 80.0, "low": 80.0, "high": 80.0}
    assert (team["p"], team["return_minus_reference"], team["times_reference"]) == (None, None, 1.0)
    assert discussion["return_minus_reference"] == {"mean": -10.0, "low": -10.0, "high": -10.0}
    assert (discussion["p"], discussion["p_uncorrected"], discussion["times_reference"]) == (0.5, 0.25, 2.0)
    assert (tuned["trained_tokens"], tuned["updates"], tuned["tokens_per_answer"], tuned["seeds"]) == (1040, 4, 40, 1)


def test_csv_has_a_line_per_row_and_ends_of_intervals_in_columns() -> None:
    team, discussion, tuned = csv.DictReader(io.StringIO(as_csv(table())))
    assert (team["structure mean"], team["structure low"], team["structure high"]) == ("80.0", "80.0", "80.0")
    assert (team["p"], team["difference mean"], team["times"], team["updates"]) == ("", "", "1.0", "4.0")
    assert (discussion["difference low"], discussion["p"], discussion["times"]) == ("-10.0", "0.5", "2.0")
    assert (tuned["name"], tuned["seeds"], tuned["trained tokens"]) == ("tuned", "1", "1040.0")


def test_the_terminal_shows_means_and_an_interval_for_the_return() -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(*as_tables(table(), 140))
    text = console.export_text()
    assert "team" in text and "81.0 [80." in text and "200 (x2.0)" in text and "-10.0" in text
    assert "more than that: discussion 2.0 times as many" in " ".join(text.split())


def test_a_table_that_is_too_wide_becomes_two_that_lose_nothing() -> None:
    whole, budgets = as_tables(table(), 140)
    parts, test, _ = as_tables(table(), 60)
    assert [column.header for column in budgets.columns][1:] == [
        "training tokens",
        "answering tokens",
        "training seconds",
    ]
    heads = [[str(column.header) for column in one.columns] for one in (whole, parts, test)]
    assert heads[0] == heads[1] + heads[2][1:] and heads[2][:2] == ["", "return %"]
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(parts, test)
    text = console.export_text()
    assert "-10.0" in text and "200 (x2.0)" in text and "…" not in text


def noisy() -> list[Row]:
    """A team whose seeds scatter, one that is as good within that, and untrained ones in two wordings."""
    teams = {
        "team": [talk(80.0 + n, 50, seed=n, trained_tokens=1000, updates=4) for n in (-1, 0, 1)],
        "near": [talk(79.0, 50, seed=n, trained_tokens=2000, updates=4) for n in (-1, 0, 1)],
        "raw": [talk(20.0, 50, seed=n) for n in (-1, 0, 1)],
        "raw, reworded": [talk(22.0, 50, seed=n) for n in (-1, 0, 1)],
    }
    return tabulate(teams, "team", reworded={"raw": "raw, reworded"})


def test_noise_stands_beside_every_difference_and_in_words_below() -> None:
    text = as_markdown(noisy())
    head, _, team, near, raw, _ = text.splitlines()[2:8]
    assert head.endswith("| difference | p | noise: seeds, words |") and team.endswith("| 100 |  |  |  |")
    assert near.endswith("| ±3.5, - (within) |") and raw.endswith("| ±3.5, ±2.0 |")
    assert (
        "Noise, a method against itself: team by as many other seeds ±3.5 (95 %); untrained by other words 2.0. "
        "Differences no larger than that: near." in text
    )
    assert "Noise: not known with one seed and no reworded row" in as_markdown(table())


def test_budgets_have_a_table_of_their_own() -> None:
    lines = as_markdown(noisy()).split("first row: the difference")[1].splitlines()[2:]
    assert lines[0] == "|  | training tokens | answering tokens | training seconds |"
    assert lines[2] == "| team | 1,000 | 100 | 0 |"
    assert lines[3].startswith("| near | x2.00: - | x1.00: -1.0 [")
    assert lines[4].startswith("| raw | x0.00: - | x1.00: -60.0 [")  # nobody looked at the team before training


def test_json_and_csv_hold_noise_and_budgets() -> None:
    near = as_record(noisy())["rows"][1]
    assert near["within_noise"] and near["noise"]["seeds"]["high"] == -near["noise"]["seeds"]["low"]
    assert near["budgets"]["training tokens"] == {"spent": 2000.0, "times": 2.0, "difference": None}
    line = list(csv.DictReader(io.StringIO(as_csv(noisy()))))[2]
    assert (line["words noise mean"], line["times training tokens"], line["spent answering tokens"]) == (
        "2.0",
        "0.0",
        "100.0",
    )
    assert line["equal training tokens mean"] == "" and line["equal answering tokens mean"].startswith("-60")


def test_what_was_picked_of_a_trained_row_is_no_further_training() -> None:
    texts = [said("x", value, (10,), n) for n, value in enumerate((10.0, 20.0))]
    tuned = Played(texts, trained_tokens=500, updates=4)
    rows = tabulate({"team": [Played([said("x", 5.0, (20,))])], "tuned": [tuned]}, "team", equal=["tuned"])
    assert rows[2].name == "tuned, best of 2 by the reward" and budget_of(rows).count("500 generated tokens") == 1
