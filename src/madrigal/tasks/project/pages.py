"""A page of HTML as a parser of the standard sees it; the only file that imports html5lib."""

from __future__ import annotations

import importlib.util
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from madrigal.types import ConfigError

UNSEEN = ("script", "style", "template", "noscript")  # what is in these is not read by who looks at a page


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        faults: errors of its form by the HTML standard, with their lines.
        text: what stands in its body, for a reader.
        links: the addresses of its links, as written.
    """

    faults: tuple[str, ...]
    title: str = ""
    text: str = ""
    links: tuple[str, ...] = ()


def check_parser() -> None:
    """Makes sure that html5lib is there.

    Raises:
        ConfigError: if it is not.
    """
    if importlib.util.find_spec("html5lib") is None:
        raise ConfigError("task project judges pages with html5lib: pip install 'madrigal[project]'")


def page_of(source: str) -> Page:
    """Reads a page; whatever a model writes, nothing is raised.

    >>> page_of("<!DOCTYPE html>\\n<title>Otter</title>\\n<p>Fur. <a href='food.html'>Food</a></p>")
    Page(faults=(), title='Otter', text='Fur. Food', links=('food.html',))
    """
    import html5lib

    parser = html5lib.HTMLParser(namespaceHTMLElements=False)
    try:
        root = parser.parse(source)
    # The standard names an answer to every input, the parser has inputs at which it stumbles.
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        return Page((f"cannot be parsed ({type(error).__name__})",))
    faults = tuple(f"line {line}: {_in_words(code, values)}" for (line, _), code, values in parser.errors)
    links = tuple(address.strip() for node in root.iter("a") if (address := node.get("href")) is not None)
    return Page(faults, " ".join(root.findtext("head/title", "").split()), _seen(root.find("body")), links)


def _in_words(code: str, values: Mapping[str, Any]) -> str:
    """What an error is called; the parser has some for which it has no words."""
    from html5lib.constants import E

    try:
        return str(E[code] % values)
    except KeyError:
        return code.replace("-", " ")


def target(path: str, link: str) -> str | None:
    """The file that a link leads to, seen from a page; None for another site, or another place of the same page.

    >>> target("a/b.html", "../c.html#top"), target("b.html", "https://x.org/b.html"), target("b.html", "../../etc")
    ('c.html', None, '../../etc')
    """
    try:
        parts = urlsplit(link)
    except ValueError:  # no address at all
        return link
    if parts.scheme or parts.netloc or (not parts.path and link.startswith("#")):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), unquote(parts.path)))


def _seen(body: Any) -> str:
    """The text of a tree without what no reader sees; without recursion, for there are deep trees."""
    words, waiting = list[str](), [body] if body is not None else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            words += node.split()
            continue
        inner = [node.text or ""]
        for child in node:
            seen = isinstance(child.tag, str) and child.tag not in UNSEEN  # a comment's tag is no text
            inner += [*([child] if seen else []), child.tail or ""]
        waiting += reversed(inner)
    return " ".join(words)
