"""HTML in which text stays text.

Knows: tags, escaping. Does not know: runs, pages. `Html` is made here only, so that mypy finds text that was not
escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NewType

Html = NewType("Html", str)
NOTHING = Html("")
# Control characters, and those that turn the direction of writing, would show something else than what is there.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def text(content: object) -> Html:
    """Any text as HTML; characters that nobody would see are spelled out.

    >>> text("</script>\\x1b[0m")
    '&lt;/script&gt;\\\\u001b[0m'
    """
    seen = _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", str(content))
    return Html(html.escape(seen))


def element(tag: str, attributes: Mapping[str, str], *children: Html) -> Html:
    """One element; attributes are escaped.

    >>> element("a", {"href": '"'}, text("<"))
    '<a href="&quot;">&lt;</a>'
    """
    return Html(f"<{tag}{''.join(_attribute(*item) for item in attributes.items())}>{''.join(children)}</{tag}>")


def _attribute(name: str, value: str) -> str:
    return f' {name}="{text(value)}"'


def join(parts: Iterable[Html], between: str = "") -> Html:
    return Html(str(text(between)).join(parts))


def table(caption: str, columns: Sequence[str], rows: Iterable[tuple[Html, Sequence[Html]]]) -> Html:
    """A table whose first column names the rows; it scrolls by itself where the screen is narrow."""
    head = [element("th", {"scope": "col"}, text(name)) for name in columns]
    body = [
        element("tr", {}, element("th", {"scope": "row"}, name), *(element("td", {}, cell) for cell in cells))
        for name, cells in rows
    ]
    whole = element(
        "table",
        {"aria-label": caption},
        element("thead", {}, element("tr", {}, *head)),
        element("tbody", {}, *body),
    )
    # The caption stands outside of what scrolls, and can be read as a whole on a phone.
    scrolled = element("div", {"class": "wide", "tabindex": "0", "role": "region", "aria-label": caption}, whole)
    return element("div", {"class": "table"}, element("p", {"class": "caption"}, text(caption)), scrolled)


def fill(template: str, parts: Mapping[str, Html]) -> str:
    """Puts parts into the `{{name}}` places of a template, in one pass: what is put in is not read again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
