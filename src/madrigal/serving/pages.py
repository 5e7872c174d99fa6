"""The addresses of a team's server: OpenAI's interface, a page to try the team, health and counts."""

from __future__ import annotations

from importlib.resources import files

from madrigal.report.document import policy
from madrigal.report.markup import Html, fill, text
from madrigal.serving.service import TeamService
from madrigal.serving.web import Address, Asked, Reply, WebApp, web_app


def team_app(service: TeamService, key: str = "", timeout: float = 300.0) -> WebApp:
    """The web application of a team.

    Args:
        key: without which nothing but the page and /health answers; "" asks for none.
        timeout: seconds that an answer may take.
    """
    page, headers = _chat_page(service.name)

    async def show(asked: Asked) -> Reply:
        return Reply(page, "text/html", headers)

    async def health(asked: Asked) -> Reply:
        return Reply({"status": "ok"})

    async def metrics(asked: Asked) -> Reply:
        return Reply(service.metrics.text(), "text/plain; version=0.0.4")

    async def models(asked: Asked) -> Reply:
        return Reply(service.models())

    async def model(asked: Asked) -> Reply:
        return Reply(service.model(asked.names["name"]))

    async def chat(asked: Asked) -> Reply:
        return Reply(await service.chat(asked.body))

    addresses = (
        Address("GET", "/", show, open=True),
        Address("GET", "/health", health, open=True),
        Address("GET", "/metrics", metrics),
        Address("GET", "/v1/models", models),
        Address("GET", "/v1/models/{name:path}", model),
        Address("POST", "/v1/chat/completions", chat),
    )
    return web_app(addresses, key, timeout)


def _chat_page(model: str) -> tuple[bytes, dict[str, str]]:
    """The page, and the headers that let it run its own script, use its own style and ask this server alone."""
    folder = files("madrigal.serving").joinpath("page")
    template, style, script = (folder.joinpath(n).read_text("utf-8") for n in ("chat.html", "chat.css", "chat.js"))
    content = fill(template, {"model": text(model), "style": Html(style), "script": Html(script)})
    allowed = f"{policy(style, script)}; connect-src 'self'; frame-ancestors 'none'"
    return content.encode(), {"Content-Security-Policy": allowed}
