"""How a served team bears many clients: what is lost, how long they wait, and throughput against the bare engine.

    python benchmarks/serve.py RUN --clients 64 --questions 256
    python benchmarks/serve.py RUN --stream
    python benchmarks/serve.py RUN --slow 10000 --again 10

Asks the questions in this process (`TrainedTeam.answer_many`), then serves the same team on loopback and has as many
clients as named ask the same questions, each its next one when its last was answered. Answers are compared,
letter by letter. Both sides are measured once more in reverse order, since the machine may be busy; rates are of
both. Prints one JSON row. With `--stream` clients read streams, whose parts are put together. With `--slow N` another
process keeps N connections that send a byte a second (`slow_clients.py`), so that answers are given beside them; each
comes back S seconds after it was cut off (`--again S`).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice, takewhile
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
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--slow", type=int, default=0, metavar="N")
    parser.add_argument("--again", type=float, default=120.0, metavar="S")
    options = parser.parse_args()
    team = load_team(options.run)
    topics = islice(cycle(TOPICS), options.questions)
    texts = [f"My {topic} and I have {n} problems, and none is solved." for n, topic in enumerate(topics)]
    team.answer_many(texts[:8])
    service = TeamService(team, "load")
    with serving(team_app(service)) as url:
        bare, seconds = in_process(team, texts)
        work = [time.process_time()]  # seconds of processors, of clients and server together
        with slow_clients(url, options.slow, options.again) as slow:
            rounds = [through(url, texts, options.clients, options.stream) for _ in range(2)]
        work.append(time.process_time())
        again, seconds_again = in_process(team, texts)
        work.append(time.process_time())
    service.worker.close(10)
    waits = sorted(one.seconds for told, _ in rounds for one in told)
    first = sorted(one.first for told, _ in rounds for one in told)
    served = sum(spent for _, spent in rounds)
    row = {
        "clients": options.clients,
        "requests": 2 * len(texts),
        "lost": sum(one.answer is None for told, _ in rounds for one in told),
        "other_words": sum(one.answer != own for told, _ in rounds for one, own in zip(told, bare, strict=True)),
        "first_words_p50_seconds": round(first[len(first) // 2], 2),
        "p50_seconds": round(waits[len(waits) // 2], 2),
        "p95_seconds": round(waits[int(0.95 * len(waits))], 2),
        "served_per_second": round(2 * len(texts) / served, 1),
        "bare_per_second": round(2 * len(texts) / (seconds + seconds_again), 1),
        "share": round((seconds + seconds_again) / served, 2),
        "share_of_processor_time": round(2 * (work[2] - work[1]) / (work[1] - work[0]), 2),
        "each": [round(spent, 1) for spent in (seconds, *(spent for _, spent in rounds), seconds_again)],
        **slow,
    }
    assert again == bare
    print(json.dumps(row), flush=True)


def in_process(team: TrainedTeam, texts: Sequence[str]) -> tuple[list[str], float]:
    """The answers of the bare engine, and how long they took."""
    began = time.perf_counter()
    answers = [answer.text for answer in team.answer_many(texts)]
    return answers, time.perf_counter() - began


@dataclass(frozen=True)
class Told:
    """What a client was told: None where it was not answered; seconds until the first words, and until the last."""

    answer: str | None
    first: float
    seconds: float


def through(url: str, texts: Sequence[str], clients: int, stream: bool) -> tuple[list[Told], float]:
    """What clients were told, and how long all took."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        told = list(pool.map(lambda text: ask(url, text, stream), texts))
    return told, time.perf_counter() - began


def ask(url: str, text: str, stream: bool) -> Told:
    """One question of one client."""
    began, first = time.perf_counter(), 0.0
    asked = {"model": "team/load", "messages": [{"role": "user", "content": text}], "seed": 0, "stream": stream}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)
    answer: str | None = ""
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"Content-Type": "application/json"})
        came = connection.getresponse()
        for part in map(json.loads, events(came) if stream else [came.read()]):
            (choice,) = part["choices"]
            answer += choice["delta" if stream else "message"].get("content", "")
            first = first or (time.perf_counter() - began if answer else 0.0)
    except (OSError, KeyError, http.client.HTTPException):
        answer = None
    finally:
        connection.close()
    return Told(answer, first, time.perf_counter() - began)


def events(came: http.client.HTTPResponse) -> Iterator[bytes]:
    """The parts of a stream."""
    lines = (line.strip().removeprefix(b"data: ") for line in came)
    return takewhile(lambda line: line != b"[DONE]", filter(None, lines))


@contextmanager
def slow_clients(url: str, count: int, again: float) -> Iterator[dict[str, Any]]:
    """Connections that send slowly while the block lasts; after it, what became of them and what this process held."""
    found: dict[str, Any] = {}
    if not count:
        yield found
        return
    port, script = url.rpartition(":")[2], Path(__file__).with_name("slow_clients.py")
    command = [sys.executable, script, port, str(count), "600", "--again", str(again)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    over, files, memory = threading.Event(), list[int](), list[float]()

    def watch() -> None:
        while not over.wait(0.2):
            files.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert child.stdout
        found["slow_open"] = json.loads(child.stdout.readline())
        yield found
    finally:
        child.send_signal(signal.SIGINT)
        found["slow"] = json.loads(child.communicate()[0].splitlines()[-1])
        over.set()
        watcher.join()
        found |= {"most_files": max(files), "memory_mb": [round(memory[0]), round(max(memory))]}


if __name__ == "__main__":
    main()
