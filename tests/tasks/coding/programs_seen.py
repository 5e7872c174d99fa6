"""Labelled pairs of aux and main: the half that the recogniser of cooperation schemes was tuned on, and the paper's.

Both halves were written and labelled before the recogniser. A block is `#: name = schemes`, then aux, then main. The
labels say what the programs mean, by these rules:

    fallback         main has a way of its own to an answer for where aux fails: the call stands in a `try` whose
                     handler does more than raise, or its result is checked and main computes the answer if need be
    decorator        aux answers for the whole, main dresses the call: a guard before it, arguments cleaned up, the
                     result sorted, rounded, converted, formatted, clamped, shifted by a constant, or replaced by one
    coordinator      main divides the work, aux gets the pieces, and its results make the answer
    strategy filter  aux decides: its verdict chooses between branches of main, and is not itself the answer
    none             aux is not called, only wrapped, or ignored; or main computes on from its result by logic of its
                     own, a division of labour that the four do not describe

Several may hold. A guard counts beside any scheme, but the base case of a recursion is not a guard.
The paper prints its examples; those here are written anew from their descriptions.
"""

PAPER = """
#: compare_one = fallback
def aux(a, b):
    x = float(str(a).replace(",", "."))
    y = float(str(b).replace(",", "."))
    if x == y:
        return None
    return a if x > y else b

def compare_one(a, b):
    try:
        return aux(a, b)
    except ValueError:
        x, y = str(a).strip(), str(b).strip()
        if x == y:
            return None
        return a if x > y else b

#: compare_one_checked = fallback
def aux(a, b):
    return a if a > b else b

def compare_one_checked(a, b):
    larger = aux(a, b)
    if larger is None or larger not in (a, b):
        x = float(str(a).replace(",", "."))
        y = float(str(b).replace(",", "."))
        return a if x > y else b
    return larger

#: is_palindrome = decorator
def aux(text):
    return text == text[::-1]

def is_palindrome(text):
    if not text:
        return True
    return aux(text)

#: flip_case = coordinator
def aux(char):
    return char.lower() if char.isupper() else char.upper()

def flip_case(string):
    return "".join(aux(char) for char in string)

#: x_or_y = strategy filter
def aux(n):
    return n > 1 and all(n % i for i in range(2, int(n ** 0.5) + 1))

def x_or_y(n, x, y):
    if aux(n):
        return x
    else:
        return y

#: prime_fib = strategy filter
def aux(n):
    return n > 1 and all(n % i for i in range(2, int(n ** 0.5) + 1))

def prime_fib(n):
    a, b = 0, 1
    count = 0
    while count < n:
        a, b = b, a + b
        if aux(a):
            count += 1
    return a

#: factorize = strategy filter
def aux(n):
    return n > 1 and all(n % i for i in range(2, int(n ** 0.5) + 1))

def factorize(n):
    factors = []
    for i in range(2, n + 1):
        while aux(i) and n % i == 0:
            factors.append(i)
            n //= i
    return factors

#: largest_prime_factor = strategy filter
def aux(n):
    return n > 1 and all(n % i for i in range(2, int(n ** 0.5) + 1))

def largest_prime_factor(n):
    largest = 1
    for i in range(2, n + 1):
        if n % i == 0 and aux(i):
            largest = i
    return largest
"""

SEEN = '''
#: mean_value = fallback
def aux(nums):
    return sum(nums) / len(nums)

def mean_value(nums):
    try:
        return aux(nums)
    except ZeroDivisionError:
        return 0.0

#: largest = fallback
def aux(xs):
    return max(xs) if xs else None

def largest(xs):
    result = aux(xs)
    if result is None:
        best = float("-inf")
        for x in xs:
            if x > best:
                best = x
        return best
    return result

#: backwards = fallback
def aux(s):
    return "".join(reversed(s))

def backwards(s):
    return aux(s) or s[::-1]

#: first_word = fallback
def aux(text):
    words = text.split()
    return words[0] if words else None

def first_word(text):
    if (found := aux(text)) is not None:
        return found
    return text.strip().partition(" ")[0]

#: whole_root = fallback
def aux(n):
    return int(n ** 0.5)

def whole_root(n):
    root = aux(n)
    if root * root == n:
        return root
    i = 0
    while (i + 1) ** 2 <= n:
        i += 1
    return i

#: doubled = fallback
def aux(xs):
    return [2 * x for x in xs]

def doubled(xs):
    """Doubles every number."""
    result = aux(xs)
    if not isinstance(result, list) or len(result) != len(xs):
        result = []
        for x in xs:
            result.append(x + x)
    return result

#: lcm = fallback
def aux(a, b):
    import math
    return a * b // math.gcd(a, b)

def lcm(a, b):
    try:
        value = aux(a, b)
        if isinstance(value, int):
            return value
    except Exception:
        pass
    m = max(a, b)
    while m % a or m % b:
        m += 1
    return m

#: parse_all = coordinator, fallback
def aux(text):
    return int(text)

def parse_all(texts):
    numbers = []
    for text in texts:
        try:
            numbers.append(aux(text))
        except ValueError:
            numbers.append(len(text))
    return numbers

#: sum_squares = fallback
def aux(xs):
    return sum(x * x for x in xs)

def sum_squares(xs):
    got = aux(xs)
    right = sum(x ** 2 for x in xs)
    return got if got == right else right

#: read_number = fallback
def aux(s):
    return float(s)

def read_number(s):
    import contextlib
    with contextlib.suppress(ValueError):
        return aux(s)
    return sum(ord(c) for c in s)

#: retried = fallback
def aux(x):
    return 1 / x

def retried(x):
    for _ in range(3):
        try:
            return aux(x)
        except ZeroDivisionError:
            x = x + 1e-9
    return x

#: safe_divide = decorator
def aux(a, b):
    return a / b

def safe_divide(a, b):
    if b == 0:
        return 0
    return aux(a, b)

#: checked_factorial = decorator
def aux(n):
    out = 1
    for i in range(2, n + 1):
        out *= i
    return out

def checked_factorial(n):
    if not isinstance(n, int):
        raise TypeError("an integer")
    if n < 0:
        raise ValueError("not negative")
    result = aux(n)
    return result

#: average = decorator
def aux(xs):
    return sum(xs) / len(xs)

def average(xs):
    return round(aux(xs), 2)

#: unique_sorted = decorator
def aux(xs):
    return list(dict.fromkeys(xs))

def unique_sorted(xs):
    seen = aux(xs)
    seen.sort()
    return seen

#: greeting = decorator
def aux(name):
    return name.strip().title()

def greeting(name):
    clean = aux(name)
    return f"Hello, {clean}!"

#: median = decorator
def aux(xs):
    xs = sorted(xs)
    return xs[len(xs) // 2]

def median(xs):
    return aux(xs) if xs else None

#: at_least_zero = decorator
def aux(a, b):
    return a - b

def at_least_zero(a, b):
    d = aux(a, b)
    if d < 0:
        return 0
    return d

#: find_all = decorator
def aux(text, word):
    found = [i for i in range(len(text)) if text.startswith(word, i)]
    return found or None

def find_all(text, word):
    places = aux(text, word)
    if places is None:
        return []
    return places

#: count_vowels = decorator
def aux(s):
    return sum(c in "aeiou" for c in s)

def count_vowels(s):
    s = s.lower()
    return aux(s)

#: is_odd = decorator
def aux(n):
    return n % 2 == 0

def is_odd(n):
    return not aux(n)

#: to_percent = decorator
def aux(a, b):
    return a / b

def to_percent(a, b):
    assert b != 0
    share = aux(a, b)
    return str(share * 100) + "%"

#: sign = decorator
def aux(x):
    return x // abs(x)

def sign(x):
    result = 0
    if x != 0:
        result = aux(x)
    return result

#: double_all = coordinator
def aux(x):
    return 2 * x

def double_all(xs):
    out = []
    for x in xs:
        out.append(aux(x))
    return out

#: digit_sum = coordinator
def aux(d):
    return int(d)

def digit_sum(n):
    return sum(aux(d) for d in str(n))

#: word_lengths = coordinator
def aux(word):
    return len(word)

def word_lengths(text):
    lengths = {}
    for word in text.split():
        n = aux(word)
        lengths[word] = n
    return lengths

#: shout = coordinator
def aux(word):
    return word.upper() + "!"

def shout(words):
    return " ".join(map(aux, words))

#: is_happy = coordinator
def aux(n):
    return sum(int(d) ** 2 for d in str(n))

def is_happy(n):
    seen = set()
    while n != 1 and n not in seen:
        seen.add(n)
        n = aux(n)
    return n == 1

#: total_depth = coordinator
def aux(item):
    return item if isinstance(item, int) else 0

def total_depth(items):
    if not items:
        return 0
    return aux(items[0]) + total_depth(items[1:])

#: same_letters = coordinator
def aux(s):
    return sorted(s.replace(" ", ""))

def same_letters(a, b):
    return aux(a) == aux(b)

#: merge_halves = coordinator
def aux(xs):
    return sorted(xs)

def merge_halves(xs):
    middle = len(xs) // 2
    left = aux(xs[:middle])
    right = aux(xs[middle:])
    merged = []
    while left and right:
        merged.append(left.pop(0) if left[0] <= right[0] else right.pop(0))
    return merged + left + right

#: by_last_digit = coordinator
def aux(n):
    return n % 10

def by_last_digit(xs):
    return sorted(xs, key=aux)

#: table = coordinator
def aux(a, b):
    return a * b

def table(n):
    rows = []
    for i in range(1, n + 1):
        rows.append([aux(i, j) for j in range(1, n + 1)])
    return rows

#: all_prime_digits = coordinator
def aux(d):
    return d in "2357"

def all_prime_digits(n):
    return all(aux(d) for d in str(n))

#: total_cost = coordinator, decorator
def aux(item):
    return item[0] * item[1]

def total_cost(items):
    if not items:
        return 0
    total = 0
    for item in items:
        total += aux(item)
    return total

#: folded = coordinator
def aux(a, b):
    return a * 10 + b

def folded(digits):
    from functools import reduce
    return reduce(aux, digits, 0)

#: absolute = strategy filter
def aux(x):
    return x < 0

def absolute(x):
    return -x if aux(x) else x

#: evens = strategy filter
def aux(n):
    return n % 2 == 0

def evens(xs):
    return [x for x in xs if aux(x)]

#: count_vowel = strategy filter
def aux(c):
    return c.lower() in "aeiou"

def count_vowel(text):
    count = 0
    for c in text:
        if aux(c):
            count += 1
    return count

#: next_prime = strategy filter
def aux(n):
    return n > 1 and all(n % i for i in range(2, n))

def next_prime(n):
    n += 1
    while not aux(n):
        n += 1
    return n

#: keep_words = strategy filter
def aux(word):
    return len(word) > 3

def keep_words(text):
    return list(filter(aux, text.split()))

#: area = strategy filter
def aux(shape):
    return shape["kind"]

def area(shape):
    kind = aux(shape)
    if kind == "circle":
        return 3.14159 * shape["r"] ** 2
    elif kind == "square":
        return shape["a"] ** 2
    return shape["a"] * shape["b"]

#: describe = strategy filter
def aux(n):
    return (n > 0) - (n < 0)

def describe(n):
    match aux(n):
        case 1:
            return "positive"
        case 0:
            return "zero"
        case _:
            return "negative"

#: sorted_either_way = strategy filter
def aux(xs):
    return (xs[0] + xs[-1]) % 2 == 1

def sorted_either_way(xs):
    ascending = aux(xs)
    if ascending:
        return sorted(xs)
    return sorted(xs, reverse=True)

#: all_valid = strategy filter
def aux(row):
    return len(row) == 3

def all_valid(rows):
    for row in rows:
        if not aux(row):
            return False
    return True

#: pay = decorator, strategy filter
def aux(hours):
    return hours > 40

def pay(hours, rate):
    if hours < 0:
        raise ValueError("no negative hours")
    if aux(hours):
        return 40 * rate + (hours - 40) * rate * 1.5
    return hours * rate

#: calculate = strategy filter
def aux(op):
    return {"+": "add", "-": "sub"}.get(op, "mul")

def calculate(a, op, b):
    return {"add": a + b, "sub": a - b, "mul": a * b}[aux(op)]

#: thin = none
def aux(x):
    return x + 1

def thin(x):
    return aux(x)

#: thin_in_two = none
def aux(x):
    return x + 1

def thin_in_two(x):
    """Calls aux(x)."""
    result = aux(x)
    return result

#: alone = none
def aux(xs):
    return sorted(xs)

def alone(xs):
    # aux(xs) would do
    return sorted(set(xs))

#: ignored = none
def aux(xs):
    return sum(xs)

def ignored(xs):
    aux(xs)
    total = 0
    for x in xs:
        total += x
    return total

#: pipeline = none
def aux(xs):
    return [x for x in xs if x % 2 == 0]

def pipeline(xs):
    ys = aux(xs)
    return sum([y * y for y in ys])

#: own_parameter = none
def aux(x):
    return x

def own_parameter(x, aux=abs):
    if aux(x) > 3:
        return 1
    return 0

#: longest_of_them = none
def aux(text):
    return text.split()

def longest_of_them(text):
    best = ""
    for word in aux(text):
        if len(word) > len(best):
            best = word
    return best
'''
