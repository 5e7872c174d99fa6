"""The atoms that programming problems are composed of: data only.

A row of a table: name | code | verbal phrases | nominal phrases, then where they differ from the default what it gives
(int, list, str, bool) and the bounds of k. In code, `{v}` is the element, `{s}` the sequence and `{k}` the threshold.
Verbal phrases complete "First ...", nominal phrases "the sum of ...", with `{np}` for what they apply to.
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


def _table(text: str) -> tuple[Atom, ...]:
    return tuple(_atom(*(cell.strip() for cell in line.split(" | "))) for line in text.strip().split("\n"))


def _atom(name: str, code: str, verbal: str, nominal: str, *more: str) -> Atom:
    gives, bounds = "", (2, 5)
    for cell in more:
        if cell.startswith("k "):
            bounds = (int(cell.split()[1]), int(cell.split()[2]))
        else:
            gives = cell
    return Atom(name, code, tuple(verbal.split("; ")), tuple(nominal.split("; ")), gives, bounds)


INT_FILTERS = _table("""
even | {v} % 2 == 0 | keep the even {e}; drop the odd {e} | the even {e}
odd | {v} % 2 == 1 | keep the odd {e}; drop the even {e} | the odd {e}
positive | {v} > 0 | keep the positive {e}; drop zeros and negatives | the positive {e}
negative | {v} < 0 | keep the negative {e}; keep the {e} below zero | the negative {e}
nonzero | {v} != 0 | drop the zeros; remove all zeros | the nonzero {e}
above | {v} > {k} | keep the {e} above k; keep the {e} greater than k | the {e} above k
below | {v} < {k} | keep the {e} below k; keep the {e} smaller than k | the {e} below k
multiple | {v} % {k} == 0 | keep the multiples of k; keep the {e} divisible by k | the multiples of k
indivisible | {v} % {k} != 0 | drop the multiples of k; drop the {e} divisible by k | the {e} not divisible by k
big | abs({v}) > {k} | keep the {e} with absolute value above k | the {e} with absolute value above k
other | {v} != {k} | drop the {e} equal to k; remove every k | the {e} different from k
digit | 0 <= {v} <= 9 | keep the {e} with one digit; keep the {e} from 0 to 9 | the {e} with one digit
""")

INT_MAPS = _table("""
square | {v} * {v} | square each of them; replace each by its square | the squares of {np}
cube | {v} ** 3 | cube each of them; replace each by its cube | the cubes of {np}
double | {v} * 2 | double each of them; multiply each by two | the doubles of {np}
triple | {v} * 3 | triple each of them; multiply each by three | the triples of {np}
half | {v} // 2 | halve each of them; divide each by two | the halves of {np}
negate | -{v} | negate each of them; flip each sign | the negations of {np}
abs | abs({v}) | take absolute values | the absolute values of {np}
next | {v} + 1 | add one to each; increase each by one | the successors of {np}
add | {v} + {k} | add k to each; increase each by k | {np} plus k
minus | {v} - {k} | subtract k from each; decrease each by k | {np} minus k
scale | {v} * {k} | multiply each by k; scale each by k | {np} times k
mod | {v} % {k} | take each modulo k | the remainders of {np} modulo k
cap | min({v}, {k}) | cap each at k; limit each to at most k | {np} capped at k
last | abs({v}) % 10 | take the last digit of each | the last digits of {np}
""")

STR_FILTERS = _table("""
long | len({v}) > {k} | keep the {e} longer than k; keep the {e} with more than k letters | the {e} longer than k
short | len({v}) < {k} | keep the {e} shorter than k; keep the {e} with fewer than k letters | \
the {e} shorter than k | k 4 6
exact | len({v}) == {k} | keep the {e} of length k | the {e} of length k | k 3 5
vowel | {v}[0] in 'aeiou' | keep the {e} that start with a vowel | the {e} starting with a vowel
consonant | {v}[0] not in 'aeiou' | drop the {e} that start with a vowel | the {e} not starting with a vowel
ends | {v}[-1] in 'aeiou' | keep the {e} that end with a vowel | the {e} ending with a vowel
hasa | 'a' in {v} | keep the {e} with an a; keep the {e} that contain an a | the {e} containing an a
hase | 'e' in {v} | keep the {e} with an e; keep the {e} that contain an e | the {e} containing an e
noa | 'a' not in {v} | drop the {e} with an a; drop the {e} that contain an a | the {e} without an a
palindrome | {v} == {v}[::-1] | keep the palindromes; keep the {e} that read the same backwards | the palindromes
evenlen | len({v}) % 2 == 0 | keep the {e} of even length | the {e} of even length
oddlen | len({v}) % 2 == 1 | keep the {e} of odd length | the {e} of odd length
""")

STR_MAPS = _table("""
upper | {v}.upper() | turn each to upper case; write each in capitals | the upper case of {np}
title | {v}.title() | capitalize each of them | the capitalized form of {np}
reverse | {v}[::-1] | reverse each of them; turn each backwards | the reversals of {np}
first | {v}[0] | take the first letter of each | the first letters of {np}
final | {v}[-1] | take the last letter of each | the last letters of {np}
twice | {v} + {v} | repeat each twice; write each twice | {np} written twice
mark | {v} + '!' | add an exclamation mark to each | {np} with an exclamation mark
prefix | {v}[:{k}] | take the first k letters of each; cut each after k letters | the first k letters of {np} | k 1 3
length | len({v}) | take the length of each; replace each by its length | the lengths of {np} | int
counta | {v}.count('a') | count the letter a in each | the counts of a in {np} | int
""")

CHAR_FILTERS = _table("""
vowel | {v} in 'aeiou' | keep the vowels | the vowels
consonant | {v} not in 'aeiou' | drop the vowels; remove all vowels | the {e} that are no vowels
upper | {v}.isupper() | keep the capitals; keep the upper case {e} | the upper case {e}
lower | {v}.islower() | keep the lower case {e} | the lower case {e}
digit | {v}.isdigit() | keep the digits | the digits
alpha | {v}.isalpha() | keep the letters | the letters
space | {v} != ' ' | drop the spaces; remove all spaces | the {e} other than spaces
""")

CHAR_MAPS = _table("""
upper | {v}.upper() | turn each to upper case; write each in capitals | the upper case of {np}
lower | {v}.lower() | turn each to lower case | the lower case of {np}
swap | {v}.swapcase() | swap the case of each | the swapped case of {np}
twice | {v} + {v} | repeat each twice; write each twice | {np} written twice
mark | {v} + '!' | add an exclamation mark to each | {np} with an exclamation mark
""")

# What ends a problem: over any element type, over numbers, over strings.
ANY_REDUCERS = _table("""
count | len({s}) | count them; return how many there are | the number of {np} | int
list | {s} | return them as a list | the list of {np} | list
back | {s}[::-1] | return them in reverse order | the reversed list of {np} | list
sorted | sorted({s}) | sort them; return them in ascending order | the sorted list of {np} | list
falling | sorted({s}, reverse=True) | sort them in descending order | the descending list of {np} | list
unique | len(set({s})) | count the distinct ones | the number of distinct values among {np} | int
distinct | sorted(set({s})) | sort them without duplicates | the sorted list without duplicates of {np} | list
skip | {s}[::2] | return every second one | every second one of {np} | list
rest | {s}[1:] | return all but the first | all but the first of {np} | list
""")

INT_REDUCERS = _table("""
sum | sum({s}) | add them up; return their sum; return the total | the sum of {np}; the total of {np} | int
max | max({s}, default=0) | return the largest or 0; return their maximum or 0 | the maximum of {np} or 0 | int
min | min({s}, default=0) | return the smallest or 0; return their minimum or 0 | the minimum of {np} or 0 | int
any | any({s}) | return whether any is nonzero | whether there is a nonzero value among {np} | bool
parity | sum({s}) % 2 | return the parity of their sum | the parity of the sum of {np} | int
""")

STR_REDUCERS = _table("""
join | ''.join({s}) | glue them together | the concatenation of {np} | str
dash | '-'.join({s}) | join them with dashes | {np} joined with dashes | str
words | ' '.join({s}) | join them with spaces | {np} joined with spaces | str
size | len(''.join({s})) | return their total length | the total length of {np} | int
""")


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


_RANGE = ("the numbers from 1 to n",)
SOURCES = {
    "ints": Source("xs", "xs", "x", "numbers", "in xs", ("a list of numbers xs", "numbers xs"), INT_FILTERS, INT_MAPS),
    "range": Source("n", "range(1, n + 1)", "i", "numbers", "from 1 to n", _RANGE, INT_FILTERS, INT_MAPS),
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
