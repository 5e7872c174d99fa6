"""Transition words in twelve categories: the yardstick of coherence in the writing reward.

The lists are our own, of about the sizes used for arXiv:2508.04652. There a phrase matched as a bare
substring, so that "as" fired inside "was" and several categories on almost any text; here a phrase is whole
words. A phrase stands in one category only, but a longer one may hold a shorter one ("even if" is concession
and condition). `substring_matching` counts other lists as the authors count theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from madrigal.types import ConfigError

Matching = Callable[[str], frozenset[str]]  # a text -> the categories that it has

PHRASES: dict[str, tuple[str, ...]] = {
    "elaboration": (
        "also", "moreover", "furthermore", "further", "in addition", "additionally", "besides",
        "what is more", "on top of that", "along with", "as well as", "not only", "another point",
        "to add to this", "beyond that", "together with", "apart from that", "coupled with", "too", "plus",
        "adding to this",
    ),
    "examples": (
        "for example", "for instance", "such as", "e.g.", "namely", "including", "to illustrate",
        "illustrated by", "as an illustration", "as an example", "one example", "an example of",
        "examples include", "in one case", "take the case of", "consider", "among them", "specifically",
        "in particular", "to name a few", "a case in point", "as seen in",
    ),
    "explanation": (
        "that is", "i.e.", "in other words", "put differently", "put simply", "simply put", "to explain",
        "this means", "which means", "meaning that", "to clarify", "to be clear", "more precisely",
        "to be precise", "to be exact", "the idea is", "the point is", "in simple terms", "in plain words",
        "that is to say", "the reason is", "in practice",
    ),
    "cause_effect": (
        "because", "so", "so that", "therefore", "thus", "hence", "thereby", "consequently", "as a result",
        "as a consequence", "accordingly", "due to", "owing to", "since", "leads to", "led to",
        "leading to", "causes", "caused by", "results in", "resulted in", "resulting in", "for this reason",
        "that is why", "which is why", "thanks to",
    ),
    "contrast": (
        "but", "however", "yet", "whereas", "while", "on the other hand", "on the one hand", "on one hand",
        "in contrast", "by contrast", "contrasts with", "instead", "rather", "rather than", "unlike",
        "conversely", "on the contrary", "contrary to", "alternatively", "differs from", "different from",
        "as opposed to", "in opposition to", "at odds with", "versus", "the reverse", "set against",
        "a different view", "in reality",
    ),
    "sequence": (
        "first", "firstly", "second", "secondly", "third", "thirdly", "next", "then", "finally", "last",
        "lastly", "to begin with", "to start with", "beginning with", "in the first place", "first of all",
        "at first", "followed by", "following this", "after that", "afterwards", "subsequently",
        "previously", "initially", "in turn", "the next step", "the final step", "step by step",
        "one by one", "from there", "eventually", "ultimately", "at last",
    ),
    "emphasis": (
        "indeed", "in fact", "as a matter of fact", "clearly", "certainly", "definitely", "above all",
        "especially", "particularly", "importantly", "most importantly", "notably", "of course",
        "without doubt", "undoubtedly", "obviously", "truly", "surely", "crucially", "significantly",
        "essentially", "it is worth noting", "it is important", "in truth",
    ),
    "summary": (
        "in summary", "to summarise", "to summarize", "in conclusion", "to conclude", "overall", "in short",
        "in brief", "briefly", "all in all", "on the whole", "in sum", "to sum up", "altogether",
        "in closing", "taken together", "as a whole", "in the end", "in a nutshell", "the bottom line",
        "the main point",
    ),
    "comparison": (
        "similarly", "likewise", "similar to", "in the same way", "the same as", "just as", "like",
        "equally", "compared with", "compared to", "in comparison", "by comparison", "in common with",
        "as with", "akin to", "comparable to", "parallel to",
    ),
    "concession": (
        "although", "though", "even though", "even if", "even so", "despite", "in spite of", "nevertheless",
        "nonetheless", "notwithstanding", "still", "regardless", "admittedly", "granted", "albeit",
        "all the same", "for all that", "in any case", "be that as it may",
    ),
    "condition": (
        "if", "only if", "unless", "provided that", "providing that", "as long as", "so long as", "in case",
        "in that case", "on condition that", "in the event of", "otherwise", "assuming", "supposing",
        "whether", "given that", "depending on", "contingent on", "if not",
    ),
    "time": (
        "when", "whenever", "before", "after", "until", "during", "meanwhile", "in the meantime",
        "at the same time", "simultaneously", "now", "currently", "at present", "today", "these days",
        "nowadays", "recently", "lately", "later", "earlier", "soon", "once", "already", "ago", "over time",
        "so far",
    ),
}  # fmt: skip


def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    bodies = (r"\s+".join(re.escape(word) for word in phrase.split()) for phrase in phrases)
    return re.compile(rf"(?<!\w)(?:{'|'.join(bodies)})(?!\w)", re.IGNORECASE)


_PATTERNS = {category: _pattern(phrases) for category, phrases in PHRASES.items()}


def categories(text: str) -> frozenset[str]:
    """The categories of which the text holds at least one phrase, as whole words in any case.

    >>> sorted(categories("However, it rained. So we stayed."))
    ['cause_effect', 'contrast']
    >>> categories("The button was sofa-red.")
    frozenset()
    """
    return frozenset(category for category, pattern in _PATTERNS.items() if pattern.search(text))


def substring_matching(phrases: Mapping[str, tuple[str, ...]]) -> Matching:
    """The matching of the authors' code: a phrase counts wherever its letters stand, in any case, within words too.

    >>> sorted(substring_matching({"time": ("as",), "condition": ("if",)})("It was gone."))
    ['time']
    """
    lower = {category: tuple(phrase.lower() for phrase in of_it) for category, of_it in phrases.items()}

    def matching(text: str) -> frozenset[str]:
        small = text.lower()
        return frozenset(category for category, of_it in lower.items() if any(phrase in small for phrase in of_it))

    return matching


def read_phrases(name: str) -> dict[str, tuple[str, ...]]:
    """The categories and phrases of a JSON file, {"contrast": ["but", "however"], ...}.

    Raises:
        ConfigError: if there is no such file, or it holds anything else.
    """
    where = f"task.transitions: {name}"
    try:
        found = json.loads(Path(name).expanduser().read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{where} could not be read ({error.strerror}); name a JSON file of transitions") from error
    except (ValueError, RecursionError, RuntimeError) as error:  # no JSON, no UTF-8, no path; no home
        reason = " ".join(str(error).split())[:100]
        raise ConfigError(f'{where}: expected JSON like {{"contrast": ["but", "however"]}} ({reason})') from error
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"{where}: expected an object of categories, each with its phrases, got {found!r:.60}")
    return {category: _phrases(of_it, f"{where}: the category {category!r}") for category, of_it in found.items()}


def _phrases(found: Any, where: str) -> tuple[str, ...]:
    if not isinstance(found, list) or not found:
        raise ConfigError(f"{where}: expected a list of phrases, got {found!r:.60}")
    for phrase in found:
        if not isinstance(phrase, str) or not phrase.strip():
            raise ConfigError(f"{where}: expected phrases, texts that are not empty, got {phrase!r:.60}")
    return tuple(found)
