"""Labelled pairs of aux and main: the half that was not scored before the recogniser was finished.

The rules of the labels stand in programs_seen. Change neither a program nor a label here to please the recogniser.
"""

HELD = """
#: to_int = fallback
def aux(s):
    return int(s)

def to_int(s):
    try:
        number = aux(s)
    except (TypeError, ValueError):
        number = 0
        for c in s:
            if c.isdigit():
                number = number * 10 + int(c)
    return number

#: gcd = fallback
def aux(a, b):
    while b:
        a, b = b, a % b
    return a

def gcd(a, b):
    g = aux(a, b)
    if g and a % g == 0 and b % g == 0:
        return g
    for d in range(min(a, b), 0, -1):
        if a % d == 0 and b % d == 0:
            return d
    return 1

#: capital = fallback
def aux(s):
    return s.capitalize()

def capital(s):
    out = aux(s)
    return out if out is not None else s[:1].upper() + s[1:].lower()

#: fib = fallback
def aux(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a

def fib(n):
    value = aux(n)
    if not isinstance(value, int):
        if n < 2:
            return n
        return fib(n - 1) + fib(n - 2)
    return value

#: sorted_safely = fallback
def aux(xs):
    return sorted(xs)

def sorted_safely(xs):
    result = aux(xs)
    ok = all(a <= b for a, b in zip(result, result[1:]))
    if not ok:
        result = sorted(xs)
    return result

#: common = fallback
def aux(a, b):
    return sorted(set(a) & set(b))

def common(a, b):
    try:
        found = aux(a, b)
        assert isinstance(found, list)
    except (AssertionError, TypeError):
        found = [x for x in a if x in b]
    finally:
        pass
    return found

#: if_there = fallback
def aux(x):
    return x ** 3

def if_there(x):
    if "aux" in globals():
        return aux(x)
    return x * x * x

#: reraised = none
def aux(x):
    return x + 2

def reraised(x):
    try:
        return aux(x)
    except TypeError as error:
        raise ValueError("a number") from error

#: guarded_fallback = decorator, fallback
def aux(xs):
    return max(xs) - min(xs)

def guarded_fallback(xs):
    if len(xs) < 2:
        return 0
    try:
        return aux(xs)
    except TypeError:
        ys = [float(x) for x in xs]
        return max(ys) - min(ys)

#: called_twice = fallback
def aux(text):
    return text.find("a")

def called_twice(text):
    if aux(text) is not None:
        return aux(text)
    for i, c in enumerate(text):
        if c == "a":
            return i
    return -1

#: initials = decorator
def aux(name):
    return "".join(part[0] for part in name.split())

def initials(name):
    if name is None or not name.strip():
        return ""
    letters = aux(name)
    return letters.upper()

#: power = decorator
def aux(a, b):
    return a ** b

def power(a, b):
    if b == 0:
        return 1
    elif b == 1:
        return a
    else:
        return aux(a, b)

#: temperature = decorator
def aux(c):
    return c * 9 / 5 + 32

def temperature(c):
    f = aux(c)
    f = round(f, 1)
    return f

#: as_tuple = decorator
def aux(xs):
    return [x for x in xs if x]

def as_tuple(xs):
    return tuple(aux(xs))

#: joined = decorator
def aux(xs):
    return [str(x) for x in xs]

def joined(xs):
    return ", ".join(aux(xs))

#: normalised = decorator
def aux(s):
    return s.replace(" ", "_")

def normalised(s):
    return aux(s.strip().lower())

#: capped = decorator
def aux(score, bonus):
    return score + bonus

def capped(score, bonus):
    return min(100, aux(score, bonus))

#: reversed_result = decorator
def aux(xs):
    return sorted(xs)

def reversed_result(xs):
    result = aux(xs)[::-1]
    return result

#: guard_by_and = decorator
def aux(n):
    return all(n % i for i in range(2, n))

def guard_by_and(n):
    return n > 1 and aux(n)

#: default_at_end = decorator
def aux(xs, x):
    return xs.index(x) if x in xs else None

def default_at_end(xs, x):
    place = aux(xs, x)
    return -1 if place is None else place

#: swapped_arguments = decorator
def aux(low, high):
    return list(range(low, high + 1))

def swapped_arguments(a, b):
    if a > b:
        a, b = b, a
    return aux(a, b)

#: matched_guard = decorator
def aux(xs):
    return sum(xs) / len(xs)

def matched_guard(xs):
    match xs:
        case []:
            return 0
        case _:
            return aux(xs)

#: keyword_format = decorator
def aux(seconds):
    return seconds // 60, seconds % 60

def keyword_format(seconds):
    return "{}:{:02d}".format(*aux(seconds))

#: caesar = coordinator
def aux(c, k):
    return chr((ord(c) - 97 + k) % 26 + 97)

def caesar(text, k):
    result = ""
    for c in text:
        result += aux(c, k)
    return result

#: squares_of = coordinator
def aux(x):
    return x * x

def squares_of(xs):
    return {x: aux(x) for x in xs}

#: sum_to = coordinator
def aux(n):
    return n * (n + 1) // 2

def sum_to(n):
    total = 0
    i = 1
    while i <= n:
        total = total + aux(i)
        i += 1
    return total

#: longest_name = coordinator
def aux(name):
    return len(name.replace(" ", ""))

def longest_name(names):
    return max(names, key=aux)

#: by_lambda = coordinator
def aux(x, k):
    return x % k

def by_lambda(xs, k):
    return list(map(lambda x: aux(x, k) + 1, xs))

#: inner = coordinator
def aux(row):
    return sum(row)

def inner(matrix):
    def row_total(row):
        return aux(row)

    return [row_total(row) for row in matrix]

#: change_in_place = coordinator
def aux(x):
    return x * 2

def change_in_place(xs):
    for i in range(len(xs)):
        xs[i] = aux(xs[i])
    return xs

#: distance = coordinator
def aux(a, b):
    return (a - b) ** 2

def distance(p, q):
    dx = aux(p[0], q[0])
    dy = aux(p[1], q[1])
    return (dx + dy) ** 0.5

#: flat = coordinator
def aux(text):
    return text.split(",")

def flat(lines):
    return [cell for line in lines for cell in aux(line)]

#: streamed = coordinator
def aux(word):
    return word[::-1]

def streamed(words):
    for word in words:
        yield aux(word)

#: hanoi = coordinator
def aux(a, b):
    return (a, b)

def hanoi(n, a, b, c):
    if n == 0:
        return []
    return hanoi(n - 1, a, c, b) + [aux(a, c)] + hanoi(n - 1, b, a, c)

#: peel = coordinator
def aux(n):
    for d in range(2, n + 1):
        if n % d == 0:
            return d
    return n

def peel(n):
    factors = []
    while n > 1:
        d = aux(n)
        factors.append(d)
        n //= d
    return factors

#: found_ones = coordinator
def aux(line):
    return line.split(":")[1] if ":" in line else None

def found_ones(lines):
    values = []
    for line in lines:
        value = aux(line)
        if value is not None:
            values.append(value)
    return values

#: leap_days = strategy filter
def aux(year):
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)

def leap_days(year):
    days = 28
    if aux(year):
        days = 29
    return days

#: parity_text = strategy filter
def aux(n):
    return n % 2

def parity_text(n):
    return "odd" if aux(n) == 1 else "even"

#: split_by = strategy filter
def aux(x):
    return x >= 0

def split_by(xs):
    yes, no = [], []
    for x in xs:
        (yes if aux(x) else no).append(x)
    return yes, no

#: skip_bad = strategy filter
def aux(s):
    return s.isdigit()

def skip_bad(items):
    total = 0
    for s in items:
        if not aux(s):
            continue
        total += int(s)
    return total

#: first_prime = strategy filter
def aux(n):
    return n > 1 and all(n % i for i in range(2, n))

def first_prime(xs):
    return next((x for x in xs if aux(x)), None)

#: how_many = strategy filter
def aux(n):
    return str(n) == str(n)[::-1]

def how_many(a, b):
    return sum(1 for n in range(a, b) if aux(n))

#: triangle = strategy filter
def aux(a, b, c):
    return len({a, b, c})

def triangle(a, b, c):
    sides = aux(a, b, c)
    if sides == 1:
        return "equilateral"
    if sides == 2:
        return "isosceles"
    return "scalene"

#: refuse = strategy filter
def aux(s):
    return "@" in s

def refuse(s):
    if not aux(s):
        raise ValueError("no address")
    return s.split("@")[1]

#: walrus_kind = strategy filter
def aux(x):
    return type(x).__name__

def walrus_kind(x):
    if (kind := aux(x)) == "str":
        return len(x)
    elif kind == "list":
        return sum(map(len, x))
    return 0

#: chosen_by_index = strategy filter
def aux(n):
    return n % 3

def chosen_by_index(n):
    return ("fizz", "one", "two")[aux(n)]

#: prefix_of = strategy filter
def aux(x):
    return x > 0

def prefix_of(xs):
    from itertools import takewhile
    return list(takewhile(aux, xs))

#: twin_condition = strategy filter
def aux(n):
    return n > 1 and all(n % i for i in range(2, n))

def twin_condition(n):
    if aux(n) and aux(n + 2):
        return (n, n + 2)
    return None

#: wide_or_narrow = strategy filter
def aux(s):
    return len(s)

def wide_or_narrow(s):
    n = aux(s)
    if n > 10:
        return s[:10] + "..."
    else:
        return s.ljust(10)

#: thin_keyword = none
def aux(a, b=1):
    return a + b

def thin_keyword(a, b):
    return aux(a=a, b=b)

#: renamed = none
def aux(x):
    return x * 7

def renamed(x):
    helper = aux
    return helper(x)

#: unread = none
def aux(xs):
    return len(xs)

def unread(xs):
    n = aux(xs)
    return sorted(xs)

#: only_named = none
def aux(xs):
    return len(xs)

def only_named(xs):
    name = "aux(xs)"
    return [name] * len(xs)

#: two_parts = none
def aux(s):
    half = len(s) // 2
    return s[:half], s[half:]

def two_parts(s):
    left, right = aux(s)
    return right + left

#: looked_up = none
def aux(xs):
    return xs.index(max(xs))

def looked_up(xs):
    i = aux(xs)
    return xs[i]

#: counted_on = none
def aux(text):
    return text.lower().split()

def counted_on(text):
    counts = {}
    for word in aux(text):
        counts[word] = counts.get(word, 0) + 1
    return counts

#: own_aux = none
def aux(x):
    return x

def own_aux(xs):
    def aux(x):
        return x + 1
    return [aux(x) for x in xs]

#: summed = none
def aux(n):
    return [d for d in range(1, n) if n % d == 0]

def summed(n):
    return sum(aux(n)) == n
"""
