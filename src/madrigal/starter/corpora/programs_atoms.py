"""The atoms that programming problems are composed of: data only.

Every atom is (name, code, verbal phrases, nominal phrases, bounds of k). In code, `{v}` is the element, `{s}` the
sequence and `k` the threshold; an atom whose code holds no `k` takes none. Verbal phrases complete "First ...", nominal
phrases complete "the sum of ...", with `{np}` for what they apply to.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Atom:
    """One operation.

    Attributes:
        name: its word in the kind of a problem and in function names.
        code: an expression over `{v}` (filters, maps) or `{s}` (the rest).
        verbal: imperative phrases.
        nominal: noun phrases.
        gives: the type of an element after a map, or of the result after a reducer; "" leaves it as it was.
        bounds: the range that k is drawn from.
    """

    name: str
    code: str
    verbal: tuple[str, ...]
    nominal: tuple[str, ...]
    gives: str = ""
    bounds: tuple[int, int] = (2, 5)

    @property
    def needs_k(self) -> bool:
        """Whether the operation takes the threshold k."""
        return "{k}" in self.code


INT_FILTERS = (
    Atom("even", "{v} % 2 == 0", ("keep the even {e}", "drop the odd {e}"), ("the even {e}",)),
    Atom("odd", "{v} % 2 == 1", ("keep the odd {e}", "drop the even {e}"), ("the odd {e}",)),
    Atom("positive", "{v} > 0", ("keep the positive {e}", "drop zeros and negatives"), ("the positive {e}",)),
    Atom("negative", "{v} < 0", ("keep the negative {e}", "keep the {e} below zero"), ("the negative {e}",)),
    Atom("nonzero", "{v} != 0", ("drop the zeros"), ("the nonzero {e}",)),
    Atom("above", "{v} > {k}", ("keep the {e} above k", "keep the {e} greater than k"), ("the {e} above k",)),
    Atom("below", "{v} < {k}", ("keep the {e} below k", "keep the {e} smaller than k"), ("the {e} below k",)),
    Atom("multiple", "{v} % {k} == 0", ("keep the multiples of k", "keep the {e} divisible by k"), ("the multiples of k",)),
    Atom("indivisible", "{v} % {k} != 0", ("drop the multiples of k", "drop the {e} divisible by k"), ("the {e} not divisible by k",)),
    Atom("big", "abs({v}) > {k}", ("keep the {e} with absolute value above k",), ("the {e} with absolute value above k",)),
    Atom("other", "{v} != {k}", ("drop the {e} equal to k", "remove every k"), ("the {e} different from k",)),
    Atom("digit", "0 <= {v} <= 9", ("keep the {e} with one digit", "keep the {e} from 0 to 9"), ("the {e} with one digit",)),
)  # fmt: skip
INT_MAPS = (
    Atom("square", "{v} * {v}", ("square each of them", "replace each by its square"), ("the squares of {np}",)),
    Atom("cube", "{v} ** 3", ("cube each of them", "replace each by its cube"), ("the cubes of {np}",)),
    Atom("double", "{v} * 2", ("double each of them", "multiply each by two"), ("the doubles of {np}",)),
    Atom("triple", "{v} * 3", ("triple each of them", "multiply each by three"), ("the triples of {np}",)),
    Atom("half", "{v} // 2", ("halve each of them", "divide each by two"), ("the halves of {np}",)),
    Atom("negate", "-{v}", ("negate each of them", "flip each sign"), ("the negations of {np}",)),
    Atom("abs", "abs({v})", ("take absolute values",), ("the absolute values of {np}",)),
    Atom("next", "{v} + 1", ("add one to each", "increase each by one"), ("the successors of {np}",)),
    Atom("add", "{v} + {k}", ("add k to each", "increase each by k"), ("{np} plus k",)),
    Atom("minus", "{v} - {k}", ("subtract k from each", "decrease each by k"), ("{np} minus k",)),
    Atom("scale", "{v} * {k}", ("multiply each by k", "scale each by k"), ("{np} times k",)),
    Atom("mod", "{v} % {k}", ("take each modulo k",), ("the remainders of {np} modulo k",)),
    Atom("cap", "min({v}, {k})", ("cap each at k", "limit each to at most k"), ("{np} capped at k",)),
    Atom("last", "abs({v}) % 10", ("take the last digit of each",), ("the last digits of {np}",)),
)  # fmt: skip
STR_FILTERS = (
    Atom("long", "len({v}) > {k}", ("keep the {e} longer than k", "keep the {e} with more than k letters"), ("the {e} longer than k",)),
    Atom("short", "len({v}) < {k}", ("keep the {e} shorter than k", "keep the {e} with fewer than k letters"), ("the {e} shorter than k",), bounds=(4, 6)),
    Atom("exact", "len({v}) == {k}", ("keep the {e} of length k",), ("the {e} of length k",), bounds=(3, 5)),
    Atom("vowel", "{v}[0] in 'aeiou'", ("keep the {e} that start with a vowel",), ("the {e} starting with a vowel",)),
    Atom("consonant", "{v}[0] not in 'aeiou'", ("drop the {e} that start with a vowel",), ("the {e} not starting with a vowel",)),
    Atom("ends", "{v}[-1] in 'aeiou'", ("keep the {e} that end with a vowel",), ("the {e} ending with a vowel",)),
    Atom("hasa", "'a' in {v}", ("keep the {e} with an a", "keep the {e} that contain an a"), ("the {e} containing an a",)),
    Atom("hase", "'e' in {v}", ("keep the {e} with an e", "keep the {e} that contain an e"), ("the {e} containing an e",)),
    Atom("noa", "'a' not in {v}", ("drop the {e} with an a", "drop the {e} that contain an a"), ("the {e} without an a",)),
    Atom("palindrome", "{v} == {v}[::-1]", ("keep the palindromes", "keep the {e} that read the same backwards"), ("the palindromes",)),
    Atom("evenlen", "len({v}) % 2 == 0", ("keep the {e} of even length",), ("the {e} of even length",)),
    Atom("oddlen", "len({v}) % 2 == 1", ("keep the {e} of odd length",), ("the {e} of odd length",)),
)  # fmt: skip
STR_MAPS = (
    Atom("upper", "{v}.upper()", ("turn each to upper case", "write each in capitals"), ("the upper case of {np}",)),
    Atom("title", "{v}.title()", ("capitalize each of them",), ("the capitalized form of {np}",)),
    Atom("reverse", "{v}[::-1]", ("reverse each of them", "turn each backwards"), ("the reversals of {np}",)),
    Atom("first", "{v}[0]", ("take the first letter of each",), ("the first letters of {np}",)),
    Atom("final", "{v}[-1]", ("take the last letter of each",), ("the last letters of {np}",)),
    Atom("twice", "{v} + {v}", ("repeat each twice", "write each twice"), ("{np} written twice",)),
    Atom("mark", "{v} + '!'", ("add an exclamation mark to each",), ("{np} with an exclamation mark",)),
    Atom("prefix", "{v}[:{k}]", ("take the first k letters of each", "cut each after k letters"), ("the first k letters of {np}",), bounds=(1, 3)),
    Atom("length", "len({v})", ("take the length of each", "replace each by its length"), ("the lengths of {np}",), gives="int"),
    Atom("counta", "{v}.count('a')", ("count the letter a in each",), ("the counts of a in {np}",), gives="int"),
)  # fmt: skip
CHAR_FILTERS = (
    Atom("vowel", "{v} in 'aeiou'", ("keep the vowels",), ("the vowels",)),
    Atom("consonant", "{v} not in 'aeiou'", ("drop the vowels", "remove all vowels"), ("the {e} that are no vowels",)),
    Atom("upper", "{v}.isupper()", ("keep the capitals", "keep the upper case {e}"), ("the upper case {e}",)),
    Atom("lower", "{v}.islower()", ("keep the lower case {e}",), ("the lower case {e}",)),
    Atom("digit", "{v}.isdigit()", ("keep the digits",), ("the digits",)),
    Atom("alpha", "{v}.isalpha()", ("keep the letters",), ("the letters",)),
    Atom("space", "{v} != ' '", ("drop the spaces", "remove all spaces"), ("the {e} other than spaces",)),
)  # fmt: skip
CHAR_MAPS = (
    Atom("upper", "{v}.upper()", ("turn each to upper case", "write each in capitals"), ("the upper case of {np}",)),
    Atom("lower", "{v}.lower()", ("turn each to lower case",), ("the lower case of {np}",)),
    Atom("swap", "{v}.swapcase()", ("swap the case of each",), ("the swapped case of {np}",)),
    Atom("twice", "{v} + {v}", ("repeat each twice", "write each twice"), ("{np} written twice",)),
    Atom("mark", "{v} + '!'", ("add an exclamation mark to each",), ("{np} with an exclamation mark",)),
)  # fmt: skip

# What ends a problem. Over any element type, over numbers, over strings.
ANY_REDUCERS = (
    Atom("count", "len({s})", ("count them", "return how many there are"), ("the number of {np}",), gives="int"),
    Atom("list", "{s}", ("return them as a list",), ("the list of {np}",), gives="list"),
    Atom("back", "{s}[::-1]", ("return them in reverse order",), ("the reversed list of {np}",), gives="list"),
    Atom("sorted", "sorted({s})", ("sort them", "return them in ascending order"), ("the sorted list of {np}",), gives="list"),
    Atom("falling", "sorted({s}, reverse=True)", ("sort them in descending order",), ("the descending list of {np}",), gives="list"),
    Atom("unique", "len(set({s}))", ("count the distinct ones",), ("the number of distinct values among {np}",), gives="int"),
    Atom("distinct", "sorted(set({s}))", ("sort them without duplicates",), ("the sorted list without duplicates of {np}",), gives="list"),
    Atom("skip", "{s}[::2]", ("return every second one",), ("every second one of {np}",), gives="list"),
    Atom("rest", "{s}[1:]", ("return all but the first",), ("all but the first of {np}",), gives="list"),
)  # fmt: skip
INT_REDUCERS = (
    Atom("sum", "sum({s})", ("add them up", "return their sum", "return the total"), ("the sum of {np}", "the total of {np}"), gives="int"),
    Atom("max", "max({s}, default=0)", ("return the largest or 0", "return their maximum or 0"), ("the maximum of {np} or 0",), gives="int"),
    Atom("min", "min({s}, default=0)", ("return the smallest or 0", "return their minimum or 0"), ("the minimum of {np} or 0",), gives="int"),
    Atom("any", "any({s})", ("return whether any is nonzero",), ("whether there is a nonzero value among {np}",), gives="bool"),
    Atom("parity", "sum({s}) % 2", ("return the parity of their sum",), ("the parity of the sum of {np}",), gives="int"),
)  # fmt: skip
STR_REDUCERS = (
    Atom("join", "''.join({s})", ("glue them together",), ("the concatenation of {np}",), gives="str"),
    Atom("dash", "'-'.join({s})", ("join them with dashes",), ("{np} joined with dashes",), gives="str"),
    Atom("words", "' '.join({s})", ("join them with spaces",), ("{np} joined with spaces",), gives="str"),
    Atom("size", "len(''.join({s}))", ("return their total length",), ("the total length of {np}",), gives="int"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """Where the elements of a problem come from.

    Attributes:
        parameter: the first parameter of the function.
        base: an expression that yields the elements.
        var: the name of one element.
        elements: what they are called.
        place: where they are, as in "the even numbers {place}".
        given: how a docstring introduces them.
    """

    parameter: str
    base: str
    var: str
    elements: str
    place: str
    given: tuple[str, ...]
    filters: tuple[Atom, ...]
    maps: tuple[Atom, ...]


SOURCES = {
    "ints": Source("xs", "xs", "x", "numbers", "in xs", ("a list of numbers xs", "numbers xs"), INT_FILTERS, INT_MAPS),
    "range": Source("n", "range(1, n + 1)", "i", "numbers", "from 1 to n", ("the numbers from 1 to n",), INT_FILTERS, INT_MAPS),
    "digits": Source("n", "map(int, str(n))", "d", "digits", "of n", ("the digits of n",), INT_FILTERS, INT_MAPS),
    "words": Source("words", "words", "w", "words", "in the list", ("a list of words", "words"), STR_FILTERS, STR_MAPS),
    "text": Source("text", "text.split()", "w", "words", "of text", ("the words of text",), STR_FILTERS, STR_MAPS),
    "chars": Source("text", "text", "c", "characters", "of text", ("the characters of text",), CHAR_FILTERS, CHAR_MAPS),
}  # fmt: skip
SOURCE_WEIGHTS = (35, 10, 10, 25, 10, 10)
WORDS = (
    "apple", "level", "noon", "tree", "ant", "eel", "idea", "ox", "radar", "banana", "dog", "house", "umbrella",
    "sea", "kayak", "up", "river", "eye", "stone", "orange", "cat", "ice", "moon", "garden", "aha", "wolf", "tea",
    "owl", "bird", "open",
)  # fmt: skip
CHUNKS = ("Hi", "Bob", "42", "cat", "A1", "Sun", "ok", "Eve", "7", "tree", "UP", "no", "x9", "Ida", "30", "Moon")
NAMES = ("solve", "compute", "process", "transform", "collect", "handle", "evaluate", "derive")
