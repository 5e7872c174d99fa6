"""What a summary says, beside its form: how far its source supports it, and how near it is to a given summary.

    faithfulness = |W ∩ S| / |W|            W, S: content words of summary and source, as stems; each counts once
    ROUGE-N      = 2 P R / (P + R)          P, R: n-grams in common, over those of the text and of the reference
    ROUGE-L      = 2 P R / (P + R)          P, R: the longest common subsequence of words, over both lengths

Faithfulness is a share of words, not of statements: it finds invented names, numbers and subjects, and does not find
words of the source in a false order. A copy of the source is wholly faithful.

References:
    Lin, 2004, "ROUGE: A Package for Automatic Evaluation of Summaries". On ASCII text the numbers are those of the
    package rouge-score without its stemmer; its words are of a-z and 0-9 only.
    Hyyrö, 2004, "Bit-parallel LCS-length computation revisited": a row of the table as one integer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from madrigal.tasks.writing.scores import STOPWORDS
from madrigal.tasks.writing.transitions import PHRASES

_TERM = re.compile(r"[^\W_]+")
_VOWEL = re.compile(r"[aeiouy]")
_LEAST = 3  # letters that an ending leaves of a word
# Words that join statements, and say nothing that a source could support.
_JOINTS = frozenset(phrase for phrases in PHRASES.values() for phrase in phrases if phrase.isalpha())


@dataclass(frozen=True, slots=True)
class Support:
    """How far a source supports a text.

    Attributes:
        share: of the text's different content words, those that the source has; 0 for a text without any.
        unsupported: the others as they are written, in their order.
    """

    share: float
    unsupported: tuple[str, ...]


def support(text: str, source: str) -> Support:
    """The share of a text's content words that its source has too, in whatever form.

    >>> support("The dog chewed two books.", "My dogs chew books.")
    Support(share=0.75, unsupported=('two',))
    """
    words, known = content_words(text), content_words(source)
    unsupported = tuple(word for stemmed, word in words.items() if stemmed not in known)
    return Support(1 - len(unsupported) / len(words) if words else 0.0, unsupported)


def content_words(text: str) -> dict[str, str]:
    """The different words of a text by their stems: no stop-words, no words that only join, no single letters."""
    words = (word for word in _TERM.findall(text.lower()) if word not in STOPWORDS and word not in _JOINTS)
    stems: dict[str, str] = {}
    for word in words:
        if len(word) > 1 or word.isdigit():
            stems.setdefault(stem(word), word)
    return stems


def stem(word: str) -> str:
    """A lower-case word without the ending of a plural, -ed or -ing; what is left need not be a word.

    >>> [stem(word) for word in ("studies", "study", "propose", "proposed", "planning", "plans", "class", "sing")]
    ['studi', 'studi', 'propos', 'propos', 'plan', 'plan', 'clas', 'sing']
    """
    if word.endswith("ies") and len(word) > _LEAST + 1:
        word = f"{word[:-3]}y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > _LEAST:
        word = word[:-1]
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= _LEAST and _VOWEL.search(rest):
            word = rest
            break
    if len(word) > _LEAST and word[-1] == word[-2] and word.isalpha():
        word = word[:-1]
    if len(word) > _LEAST:
        word = f"{word[:-1]}i" if word.endswith("y") else word.removesuffix("e")
    return word


def rouge(text: str, reference: str) -> dict[str, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L, from 0 to 1.

    >>> rouge("the cat sat", "the black cat sat")
    {'rouge1': 0.8571428571428571, 'rouge2': 0.4, 'rouge_l': 0.8571428571428571}
    """
    ours, theirs = _TERM.findall(text.lower()), _TERM.findall(reference.lower())
    return {
        "rouge1": _overlap(ours, theirs, 1),
        "rouge2": _overlap(ours, theirs, 2),
        "rouge_l": _f1(common_subsequence(ours, theirs), len(ours), len(theirs)),
    }


def _overlap(ours: Sequence[str], theirs: Sequence[str], size: int) -> float:
    one, other = (Counter(zip(*(words[n:] for n in range(size)), strict=False)) for words in (ours, theirs))
    return _f1((one & other).total(), one.total(), other.total())


def _f1(common: int, ours: int, theirs: int) -> float:
    """2 P R / (P + R) with P = common / ours and R = common / theirs."""
    return 2 * common / (ours + theirs) if common else 0.0


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence.

    >>> common_subsequence("a b c d".split(), "b x a d".split())
    2
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    row = every = (1 << len(one)) - 1
    for word in other:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & every
    return len(one) - row.bit_count()
