"""What roles came to stand for, as tables: of runs whose transcripts say who had which role."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from madrigal.evaluation.roles import (
    Act,
    RoleMeasures,
    acts_of,
    clusters,
    measure_roles,
    profile,
    stability,
    typical_texts,
)
from madrigal.report.markup import NOTHING, Html, element, join, table, text
from madrigal.runs.read import Run, order
from madrigal.runs.variants import Variant

MOST = 2000  # acts of a run that are looked at
SHOWN = 60  # characters of a typical answer
SAID = (
    "Behavior is the cluster that an answer's words belong to, as many clusters as roles, found without looking at "
    "roles, in all runs together. Information is 0 where roles mean nothing. Purity and Rand compare clusters with "
    "roles."
)


def role_tables(kinds: Sequence[Variant]) -> Html:
    """For each kind of run with roles what was measured, and what each role does; nothing where none has any."""
    tables = [tables for kind in kinds if (tables := _tables(kind))]
    return join([element("p", {"class": "said"}, text(SAID)), *tables]) if tables else NOTHING


def _tables(kind: Variant) -> Html:
    """Two tables of the acts in the last evaluation of each run of a kind."""
    by_run = [acts for acts in map(_last_acts, kind.runs) if len({act.role for act in acts}) > 1]
    every = [act for acts in by_run for act in acts]
    if not every:
        return NOTHING
    found = clusters([act.text for act in every], len({act.role for act in every}))
    rest = iter(found)
    measures = [measure_roles(acts, [next(rest) for _ in acts]) for acts in by_run]
    head = f"{kind.name}. " if kind.name else ""
    rows = [(text(name), [_ends(values)]) for name, values in _figures(measures).items()]
    if len({tuple(sorted(one.profile)) for one in measures}) == 1 < len(measures):
        profiles = [one.profile for one in measures]
        rows.append((text("agreement of runs, role by role"), [text(f"{stability(profiles, in_order=True):.2f}")]))
        rows.append((text("agreement of runs, in the best order"), [text(f"{stability(profiles):.2f}")]))
    several = f"mean of {len(measures)} runs, least and greatest" if len(measures) > 1 else f"{len(every)} answers"
    return join([table(f"{head}Roles and behavior: {several}.", ["", ""], rows), _behaviors(head, every, found)])


def _last_acts(run: Run) -> list[Act]:
    """What agents with roles did in the last evaluation of a run on held-out examples."""
    records = [line.record for line in run.episodes if line.record.get("evaluation") in run.evaluations]
    last = max((str(record["evaluation"]) for record in records), key=order, default="")
    return acts_of([record for record in records if record["evaluation"] == last], run.name)[:MOST]


def _figures(measures: Sequence[RoleMeasures]) -> dict[str, list[float]]:
    """The measures by what they are called, one value for each run."""
    return {
        "information of role and behavior, nats": [one.information for one in measures],
        "what roles at random stay below in 95 %": [one.chance for one in measures],
        "the most that it can be": [one.ceiling for one in measures],
        "information of seat and behavior, nats": [one.seat_information for one in measures],
        "specialization": [one.specialization for one in measures],
        "purity": [one.purity for one in measures],
        "adjusted Rand index": [one.rand for one in measures],
    }


def _ends(values: Sequence[float]) -> Html:
    mean, ends = text(f"{fmean(values):.2f}"), text(f" [{min(values):.2f}, {max(values):.2f}]")
    return join([mean, element("span", {"class": "interval"}, ends)]) if len(values) > 1 else mean


def _behaviors(head: str, acts: Sequence[Act], found: Sequence[int]) -> Html:
    """The share of each behavior in what each role does, and the commonest answer of each, over all runs."""
    shares = profile([act.role for act in acts], found)
    typical = typical_texts(acts, found)
    rows = [
        (text(_short(said)), [text(f"{100 * shares[role][each]:.0f}") for role in shares])
        for each, said in typical.items()
    ]
    return table(f"{head}What each role says, in % of its answers.", ["answers like", *shares], rows)


def _short(said: str) -> str:
    line = " ".join(said.split()) or "(nothing)"
    return line if len(line) <= SHOWN else f"{line[:SHOWN]} ..."
