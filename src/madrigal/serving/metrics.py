"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counts of one server.

    Args:
        load: plays under way, and plays that wait.
    """

    def __init__(self, load: Callable[[], tuple[int, int]]) -> None:
        self.registry = CollectorRegistry()
        playing = Gauge("madrigal_playing", "Answers being given", registry=self.registry)
        playing.set_function(lambda: load()[0])
        waiting = Gauge("madrigal_waiting", "Answers that wait for a place", registry=self.registry)
        waiting.set_function(lambda: load()[1])
        self._requests = Counter(
            "madrigal_requests", "Chat completions by what became of them", ["outcome"], registry=self.registry
        )
        self._tokens = Counter(
            "madrigal_tokens", "Tokens read and written by agent", ["agent", "kind"], registry=self.registry
        )
        self._seconds = Histogram(
            "madrigal_request_seconds", "From a request to its last token", buckets=SECONDS, registry=self.registry
        )

    def ended(self, outcome: str, seconds: float) -> None:
        """A request has ended: an answer, a word for an error, or "left"."""
        self._requests.labels(outcome).inc()
        self._seconds.observe(seconds)

    def spoke(self, agent: str, prompt: int, completion: int) -> None:
        """An agent has read and written so many tokens."""
        self._tokens.labels(agent, "prompt").inc(prompt)
        self._tokens.labels(agent, "completion").inc(completion)

    def text(self) -> bytes:
        """All counts in Prometheus' text format."""
        return generate_latest(self.registry)
