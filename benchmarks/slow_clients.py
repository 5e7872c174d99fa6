"""Clients that send a byte now and then, from a process of their own: what becomes of them.

    python benchmarks/slow_clients.py PORT 10000 60 --again 10

Keeps so many connections open to a port of this machine for so many seconds. Half of them never end the head of their
request, half its body; each sends a byte a second, and is opened again so many seconds after it was closed. Prints one
JSON row when it has opened all of them once, and one at the end, which SIGINT brings before its time.
"""

from __future__ import annotations

import argparse
import errno
import heapq
import json
import resource
import selectors
import signal
import socket
import time
from collections import Counter

PAUSE = 1.0  # seconds between two bytes of a client
AGAIN = 120.0  # seconds before a client comes again
BURST = 200  # connections that are opened between two looks at the others
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
BODY = HEAD + b"yes\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--again", type=float, default=AGAIN, metavar="S")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < options.count + 50:
        parser.error(f"expected to be allowed {options.count + 50} open files, got {most}; ask for fewer connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(slowly(options.port, options.count, options.seconds, options.again)), flush=True)


def slowly(port: int, count: int, seconds: float, again: float) -> dict[str, float]:
    """What became of connections that were kept open for so long."""
    seen: Counter[str] = Counter()
    began = time.monotonic()
    due = [(began, n) for n in range(count)]  # when who opens or sends next: a heap
    lines, back = dict[int, socket.socket](), dict[int, float]()  # and when those that were closed come again
    asked, told, over = set[int](), False, list[bool]()
    selector = selectors.DefaultSelector()
    signal.signal(signal.SIGINT, lambda *_: over.append(True))

    def lost(number: int, how: str) -> None:
        seen[how] += 1
        selector.unregister(lines[number])
        lines.pop(number).close()
        asked.discard(number)
        back[number] = time.monotonic() + again

    def open_or_send(number: int) -> float:
        """Seconds until it is due again."""
        if number not in lines and (left := back.get(number, 0.0) - time.monotonic()) > 0:
            return left
        if number not in lines:
            lines[number] = line = socket.socket()
            line.setblocking(False)
            line.connect_ex(("127.0.0.1", port))
            selector.register(line, selectors.EVENT_READ, number)
            seen["opened"] += 1
            return PAUSE
        try:
            lines[number].send(b"x" if number in asked else (HEAD, BODY)[number % 2])
            asked.add(number)
        except BlockingIOError:
            pass  # the server has not taken it yet
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                lost(number, "closed")
        return PAUSE

    while time.monotonic() < began + seconds and not over:
        for _ in range(BURST):
            if due[0][0] > time.monotonic():
                break
            number = due[0][1]
            heapq.heapreplace(due, (time.monotonic() + open_or_send(number), number))
        for key, _ in selector.select(0.01):
            try:
                came = lines[key.data].recv(200)
            except BlockingIOError:
                continue
            except OSError:
                came = b""
            lost(key.data, f"answered {came[9:12].decode()}" if came else "closed")
        seen["most_open"] = max(seen["most_open"], len(lines))
        if not told and seen["opened"] >= count:
            told = True
            opened = {"opened": seen["opened"], "open": len(lines), "after_seconds": round(time.monotonic() - began, 1)}
            print(json.dumps(opened), flush=True)
    return dict(seen)


if __name__ == "__main__":
    main()
