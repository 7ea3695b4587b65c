"""How complex an answer may be before no parser looks at it: length, nesting, powers, factorials, digits.

One linear pass over the text, so that degenerate text costs microseconds. An answer beyond a bound is wrong, by the
text alone and on every machine; one within them that runs into a time limit is the machine's fault or needs more CPU
than the budget (`math_answer.py`).
"""

from __future__ import annotations

import re

LONGEST = 2000
"""Characters of an answer."""
DEEPEST = 40
"""Brackets, braces and environments inside one another."""
LONGEST_DIGITS = 1000
"""Digits in a row."""
HIGHEST_TOWER = 3
"""Powers on top of one another: a^{b^{c^{d}}} has three."""
LARGEST_POWER_DIGITS = 200_000
"""Digits of the largest power that is worked out."""
LARGEST_FACTORIAL = 2000
"""The largest n in n! and in binomials."""
MOST_COMMANDS = 400
"""LaTeX commands and operators."""

_HUGE = 10**12
_BRACKET = re.compile(r"\\[{}]|[{}()\[\]]|\\begin|\\end|\\left|\\right")
_POWER = re.compile(r"\^|\*\*")
_INTEGER = re.compile(r"\d+", re.ASCII)
_COMMAND = re.compile(r"\\[A-Za-z]+|[-+*/=<>^]")
_FACTORIAL = re.compile(r"(\d+|[)}\]])\s*!", re.ASCII)
_BINOMIAL = re.compile(r"\\[dt]?binom|\\choose|\\Gamma|\bfactorial\b")
_TOO_LONG = re.compile(rf"\d{{{LONGEST_DIGITS + 1}}}", re.ASCII)


def beyond(text: str) -> str | None:
    """Why an answer is not parsed, as a clause; None when it is within every bound.

    text: the answer alone, not the whole completion.
    """
    return unreadable(text) or too_large(text)


def unreadable(text: str) -> str | None:
    """Bounds on the text: its length, digits, nesting, commands."""
    if len(text) > LONGEST:
        return f"it has {len(text)} characters (at most {LONGEST})"
    if _TOO_LONG.search(text):
        return f"more than {LONGEST_DIGITS} digits in a row"
    depth = nesting(text)
    if depth > DEEPEST:
        return f"it is nested {depth} deep (at most {DEEPEST})"
    if len(_COMMAND.findall(text)) > MOST_COMMANDS:
        return f"more than {MOST_COMMANDS} commands and operators"
    return None


def too_large(text: str) -> str | None:
    """Bounds on the values that working it out would need: towers, large powers, factorials."""
    return _factorials(text) or _powers(text)


def nesting(text: str) -> int:
    """Deepest nesting of brackets of any kind; a bracket that nothing closes counts too."""
    depth = deepest = 0
    for match in _BRACKET.finditer(text):
        mark = match.group()
        if mark in ("{", "(", "[", r"\{", r"\begin"):
            depth += 1
            deepest = max(deepest, depth)
        elif mark in ("}", ")", "]", r"\}", r"\end"):
            depth = max(0, depth - 1)
    return deepest


def _factorials(text: str) -> str | None:
    numbers = [int(m.group()) for m in _INTEGER.finditer(text)]
    largest = max(numbers, default=0)
    if _BINOMIAL.search(text) and largest > LARGEST_FACTORIAL:
        return f"a binomial or factorial of more than {LARGEST_FACTORIAL}"
    marks = _FACTORIAL.findall(text)
    if not marks:
        return None
    if any(mark.isdigit() and int(mark) > LARGEST_FACTORIAL for mark in marks):
        return f"the factorial of more than {LARGEST_FACTORIAL}"
    of_group = sum(not mark.isdigit() for mark in marks) + len(re.findall(r"!\s*!", text))
    # The factorial of a factorial, a power or a long product: small numbers only, three deep.
    if of_group and ((largest > 20 and _POWER.search(text)) or largest > LARGEST_FACTORIAL or of_group > 2):
        return "the factorial of something that may be huge"
    if of_group and (len(marks) > of_group or ("!" in text and of_group > 1) or _POWER.search(text)) and largest > 6:
        return "the factorial of something that may be huge"
    return None


def _powers(text: str) -> str | None:
    if not _POWER.search(text):
        return None
    height = _tower(text)
    if height > HIGHEST_TOWER:
        return f"a tower of {height} powers (at most {HIGHEST_TOWER})"
    longest = max((len(m.group()) for m in _INTEGER.finditer(text)), default=1)
    simple, grouped = 1, 1
    for match in _POWER.finditer(text):
        size = _size(_group(text, match.end()))
        before = text[: match.start()].rstrip()[-1:]
        if before in (")", "}", "]"):
            grouped = min(_HUGE, grouped * max(1, size))
        else:
            simple = max(simple, size)
    if longest * simple * grouped > LARGEST_POWER_DIGITS:
        return f"a power of more than {LARGEST_POWER_DIGITS} digits"
    return None


def _tower(text: str) -> int:
    """The most powers on top of one another, braced (a^{b^{c}}) or chained (a^b^c)."""
    highest = chain = 0
    last_end = -1
    inside: list[int] = []  # for each open brace: the powers it stands on
    height = 0
    position = 0
    while position < len(text):
        if text.startswith("**", position) or text[position] == "^":
            position += 2 if text[position] == "*" else 1
            chained = last_end >= 0 and not re.search(r"[^\w\s.\\()+-]", text[last_end : position - 1])
            chain = chain + 1 if chained else 1
            highest = max(highest, height + chain)
            last_end = position
            while position < len(text) and text[position] in " +-":
                position += 1
            if position < len(text) and text[position] in "{(":
                inside.append(height)
                height += 1
                last_end = -1
                position += 1
            continue
        mark = text[position]
        if mark in "{(":
            inside.append(height)
            last_end = -1
        elif mark in "})" and inside:
            height = inside.pop()
            last_end = -1
        elif mark in "+-*/=, ":
            last_end = last_end if mark in " " else -1
        position += 1
    return highest


def _group(text: str, start: int) -> str:
    """What an exponent covers: a braced group, or the run up to the next operator, further powers included."""
    rest = text[start:].lstrip()
    if not rest:
        return ""
    if rest[0] not in "{(":
        run = re.match(r"[-+]?[\w.\\]+(?:(?:\^|\*\*)[-+]?(?:[\w.\\]+|\{[^{}]*\}|\([^()]*\)))*!?", rest)
        return run.group() if run else ""
    depth = 0
    for i, mark in enumerate(rest):
        depth += (mark in "{(") - (mark in "})")
        if depth == 0:
            return rest[1:i]
    return rest[1:]


def _size(exponent: str, depth: int = 0) -> int:
    """An upper bound on the size of an exponent's value, letters counting as 1; at most 10¹²."""
    if depth > HIGHEST_TOWER:
        return _HUGE
    power = _POWER.search(exponent)
    if power is None:
        total = 0
        for term in re.split(r"[-+]", exponent):
            product = 1
            for match in re.finditer(r"(\d+)(\s*!)?", term, re.ASCII):
                number = _HUGE if len(match.group(1)) > 12 else int(match.group(1))
                if match.group(2):
                    number = 5040 if number <= 7 else _HUGE
                product = min(_HUGE, product * max(1, number))
            total = min(_HUGE, total + product)
        return total
    base = max(2, _size(exponent[: power.start()], depth + 1))
    top = _size(_group(exponent, power.end()), depth + 1)
    rest = exponent[power.end() + len(_group(exponent, power.end())) :]
    if top > 40 or base**top > _HUGE:
        return _HUGE
    return min(_HUGE, base**top * max(1, _size(rest, depth + 1)))
