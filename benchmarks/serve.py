"""How a served team bears many clients: what is lost, how long they wait, and throughput against the bare engine.

    python benchmarks/serve.py RUN --clients 64 --questions 256

Asks the questions in this process (`TrainedTeam.answer_many`), then serves the same team on loopback and has as many
clients as named ask the same questions, each its next one when its last was answered. Answers are compared,
letter by letter. Both sides are measured once more in reverse order, since the machine may be busy; rates are of
both. Prints one JSON row.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from madrigal import load_team
from madrigal.serving.pages import team_app
from madrigal.serving.service import TeamService
from madrigal.serving.web import serving
from madrigal.training.trained_team import TrainedTeam

TOPICS = ("dog", "sister", "landlord", "bicycle", "neighbor", "teacher", "wedding", "piano")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--questions", type=int, default=256)
    options = parser.parse_args()
    team = load_team(options.run)
    topics = islice(cycle(TOPICS), options.questions)
    texts = [f"My {topic} and I have {n} problems, and none is solved." for n, topic in enumerate(topics)]
    team.answer_many(texts[:8])
    service = TeamService(team, "load")
    with serving(team_app(service)) as url:
        bare, seconds = in_process(team, texts)
        rounds = [through(url, texts, options.clients) for _ in range(2)]
        again, seconds_again = in_process(team, texts)
    service.worker.close(10)
    waits = sorted(wait for _, _, each in rounds for wait in each)
    served = sum(spent for _, spent, _ in rounds)
    row = {
        "clients": options.clients,
        "requests": 2 * len(texts),
        "lost": sum(answer is None for answers, _, _ in rounds for answer in answers),
        "other_words": sum(told != own for answers, _, _ in rounds for told, own in zip(answers, bare, strict=True)),
        "p50_seconds": round(waits[len(waits) // 2], 2),
        "p95_seconds": round(waits[int(0.95 * len(waits))], 2),
        "served_per_second": round(2 * len(texts) / served, 1),
        "bare_per_second": round(2 * len(texts) / (seconds + seconds_again), 1),
        "share": round((seconds + seconds_again) / served, 2),
        "each": [round(spent, 1) for spent in (seconds, *(spent for _, spent, _ in rounds), seconds_again)],
    }
    assert again == bare
    print(json.dumps(row), flush=True)


def in_process(team: TrainedTeam, texts: Sequence[str]) -> tuple[list[str], float]:
    """The answers of the bare engine, and how long they took."""
    began = time.perf_counter()
    answers = [answer.text for answer in team.answer_many(texts)]
    return answers, time.perf_counter() - began


def through(url: str, texts: Sequence[str], clients: int) -> tuple[list[str | None], float, list[float]]:
    """What clients were answered (None where they were not), how long all took, and how long each waited."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        told = list(pool.map(lambda text: ask(url, text), texts))
    return [answer for answer, _ in told], time.perf_counter() - began, [seconds for _, seconds in told]


def ask(url: str, text: str) -> tuple[str | None, float]:
    """One question of one client."""
    began = time.perf_counter()
    fields: dict[str, Any] = {"model": "team/load", "messages": [{"role": "user", "content": text}], "seed": 0}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(fields), {"Content-Type": "application/json"})
        answer = json.load(connection.getresponse())
        return str(answer["choices"][0]["message"]["content"]), time.perf_counter() - began
    except (OSError, KeyError, http.client.HTTPException):
        return None, time.perf_counter() - began
    finally:
        connection.close()


if __name__ == "__main__":
    main()
