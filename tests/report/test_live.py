"""The live view: new lines arrive in the page; strangers, other paths and vanished runs get one line."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.chromium import Page
from fakes.synthetic import write_run
from madrigal import TrainingResult, cli
from madrigal.report.live import HOST, LiveServer
from madrigal.types import ConfigError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def server(run: Path) -> Iterator[LiveServer]:
    with LiveServer([run], 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def get(
    server: LiveServer, path: str = "/", host: str = "", method: str = "GET"
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, answer.headers


def unfinished(run: Path) -> None:
    """Makes of an ended run one that goes on: no evaluation after training, and half of its steps."""
    results = json.loads((run / "evaluation.json").read_text())
    results.pop("after")
    (run / "evaluation.json").write_text(json.dumps(results))


def test_it_is_the_page_of_the_report(server: LiveServer, run: Path, tmp_path: Path) -> None:
    assert cli.run(["report", str(run), "--output", str(tmp_path / "report.html")]) == 0
    offline = (tmp_path / "report.html").read_text()
    status, page, headers = get(server)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    body = offline[offline.index("<main>") : offline.index("</main>")]
    assert len(body) > 10_000 and body in page
    assert "connect-src &#x27;self&#x27;" in page and "connect-src" not in offline and "/stamp" not in offline
    assert headers["Cache-Control"] == "no-store" and headers["X-Frame-Options"] == "DENY"


def test_lines_that_arrive_change_the_stamp_and_the_page(server: LiveServer, run: Path) -> None:
    unfinished(run)
    (run / ".lock").write_text(f"process {os.getpid()} on here\n")
    before, page = json.loads(get(server, "/stamp")[1]), get(server)[1]
    assert "GB of memory" in before["now"] and "tokens/s in the last step" in before["now"]
    assert f'data-stamp="{before["stamp"]}"' in page and "60 of 60 steps so far" in page
    step = json.loads((run / "steps.jsonl").read_text().splitlines()[-1])
    with (run / "steps.jsonl").open("a") as stream:
        stream.write(json.dumps(step | {"step": 60, "tokens_per_second": 4321.0}) + '\n{"step": 61, "rew')
    after = json.loads(get(server, "/stamp")[1])
    assert after["stamp"] != before["stamp"] and after["now"].startswith("4321 tokens/s in the last step")
    page = get(server)[1]
    assert "61 of 60 steps so far" in page and "was cut off while it was written" in page


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1", "[::1]:{port}"])
def test_no_other_host_is_answered(host: str, server: LiveServer) -> None:
    assert get(server, host=host.format(port=server.port))[:2] == (421, "asked for another host\n")
    assert get(server, host=f"LOCALHOST:{server.port}")[0] == 200


@pytest.mark.parametrize("path", ["/../run/experiment.json", "/experiment.json", "/%2e%2e/", "/stamp/..", "/?x", "*"])
def test_there_is_nothing_but_the_page(path: str, server: LiveServer) -> None:
    assert get(server, path)[:2] == (404, "there is nothing but /\n")
    assert get(server, "/", method="POST")[0] == 501


def test_a_run_that_vanishes_is_told_and_comes_back(server: LiveServer, run: Path) -> None:
    assert get(server)[0] == 200
    run.rename(run.with_name("away"))
    assert "expected a run folder" in json.loads(get(server, "/stamp")[1])["problem"]
    status, line, _ = get(server)
    assert status == 503 and "expected a run folder" in line and line.count("\n") == 1
    run.with_name("away").rename(run)
    assert get(server)[0] == 200 and "stamp" in json.loads(get(server, "/stamp")[1])


def test_it_listens_on_loopback_alone(server: LiveServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_and_a_run_that_is_none_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.run(["view", str(run), "--port", str(port)]) == 2
    assert capsys.readouterr().err.startswith(f"madrigal: error: view: port {port} of 127.0.0.1 cannot be had")
    assert cli.run(["view", str(tmp_path / "none")]) == 2
    assert "expected a run folder" in capsys.readouterr().err
    assert cli.run(["view", str(run), "--port", "70000"]) == 2
    with LiveServer([run], 0) as first, pytest.raises(ConfigError, match="name another --port"):
        LiveServer([run], first.port)


def test_a_result_shows_itself_in_a_notebook(run: Path) -> None:
    html = TrainingResult(run, True)._repr_html_()
    assert html.startswith('<iframe sandbox="allow-scripts" srcdoc="&lt;!doctype html&gt;')
    assert html.count("<") == 2  # all of the page is in the attribute


def test_a_browser_is_shown_new_lines_and_keeps_what_was_chosen(server: LiveServer, run: Path, browser: Page) -> None:
    unfinished(run)
    browser.errors.clear()
    browser.send("Page.navigate", url=server.address)
    browser.wait("document.documentElement && document.documentElement.dataset.ready === 'yes'")
    browser.ask("byId('filters').elements.kind.value = 'training'; byId('filters').dispatchEvent(new Event('input'))")
    browser.ask("new Promise((go) => setTimeout(go, 200))")
    assert browser.ask("byId('count').textContent") == "120 of 132"
    step = json.loads((run / "steps.jsonl").read_text().splitlines()[-1])
    with (run / "steps.jsonl").open("a") as stream:
        stream.write(json.dumps(step | {"step": 60}) + "\n")
    lines = (run / "episodes.jsonl").read_text().splitlines()
    extra = next(json.loads(line) for line in reversed(lines) if "evaluation" not in json.loads(line))
    with (run / "episodes.jsonl").open("a") as stream:
        stream.write(json.dumps(extra) + "\n")
    browser.wait("document.getElementById('count')?.textContent === '121 of 133'", 120)  # the page is empty in between
    assert browser.ask("byId('filters').elements.kind.value") == "training"
    assert "61 of 60 steps so far" in browser.ask("document.body.textContent")
    assert browser.errors == []


def test_gone_while_it_is_read(run: Path) -> None:
    with LiveServer([run], 0) as server:
        shutil.rmtree(run)
        assert "problem" in server.state()
