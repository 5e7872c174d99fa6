"""What a plan says of the roles of a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.command_line import Screen
from madrigal.cli import run
from madrigal.config import Experiment
from madrigal.recipes import recipe
from madrigal.settings import ClusterConfig
from madrigal.training.checks import open_checked_task
from madrigal.training.held_out import held_out
from madrigal.training.memory import lasting
from madrigal.training.plan import Plan, make_plan
from madrigal.training.roles import roles_of, step_seconds, traffic
from madrigal.training.train import trained_examples


@pytest.fixture(scope="module")
def plan() -> Plan:
    tldr: Experiment = replace(recipe("tldr"), memory=4.0)
    with open_checked_task(tldr) as task:
        return make_plan(tldr, task, trained_examples(tldr, task), held_out(tldr, task))


def test_workers_share_play_and_learners_learn_at_once(plan: Plan) -> None:
    one, two = (roles_of(plan, ClusterConfig("local", workers)) for workers in (1, 2))
    assert [role.name for role in one] == ["this process", "rollout worker", "learner concise", "learner detailed"]
    assert one[1].seconds == pytest.approx(2 * two[1].seconds)
    learned = max(one[2].seconds, one[3].seconds)
    assert step_seconds(one, ClusterConfig("local")) == pytest.approx(one[1].seconds + learned)
    assert step_seconds(one, ClusterConfig("local", staleness=1)) == max(one[1].seconds, learned)


def test_a_worker_holds_all_policies_and_no_optimizer_and_a_learner_one_of_them(plan: Plan) -> None:
    _, worker, learner, _ = roles_of(plan, ClusterConfig("local"))
    assert worker.memory < plan.parts.total and learner.memory < plan.parts.total
    ann, bob, _ = plan.bodies  # the last one reads fluency
    weights = ann.size.parameters * ann.itemsize + bob.size.parameters * bob.itemsize
    assert traffic(plan, ClusterConfig("local", workers=3)) == 4 * weights


def test_ranks_share_what_learns_and_leave_what_speaks_whole(plan: Plan) -> None:
    one, four = (roles_of(plan, ClusterConfig("local", ranks_per_learner=ranks))[2] for ranks in (1, 4))
    body = plan.bodies[0]
    assert four.count == 4
    assert one.seconds / 4 < four.seconds < one.seconds, "they read a prompt again before each of its answers"
    shares, weights = (sum(lasting(replace(body, ranks=ranks, reference=False)).values()) for ranks in (4, 1))
    assert body.itemsize == 4 and not body.adapter
    assert weights == pytest.approx(12 * body.trained)  # float32 weights and two moments
    assert shares == pytest.approx(4 * body.trained + 12 * body.trained / 4), "a whole copy, and a share of all three"


def test_a_card_that_is_not_here_is_planned_role_by_role(capsys: Screen) -> None:
    """What no single card holds is spread: the run is not refused for what one process would take."""
    shares = ["--cluster.workers", "2", "--cluster.gpus-per-worker", "1", "--cluster.gpus-per-learner", "0.5"]
    assert run(["plan", "tldr", "--card", "h100", "--cluster.address", "local", *shares]) == 0
    shown = capsys.readouterr().out
    assert "GPUs: 3" in shown and "on such cards" in shown and "free 80.0 GB" in shown
    assert run(["plan", "tldr", "--card", "abacus"]) == 2
    assert "abacus" in capsys.readouterr().err


def test_the_command_names_the_bottleneck(capsys: Screen) -> None:
    assert run(["plan", "tldr", "--memory", "4", "--cluster.address", "local", "--cluster.workers", "2"]) == 0
    shown = capsys.readouterr().out
    assert "the bottleneck: " in shown and "rollout worker" in shown and "learner concise" in shown
