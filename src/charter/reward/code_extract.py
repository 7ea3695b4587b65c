"""Where the program is in a completion, and what is put before it.

    extract_code("Sure:\n```python\ndef f(x): return x\n```") -> Code("def f(x): return x\n", "fence")

One pass over the lines, without patterns: a policy writes this text, so it must cost no more than its length. Nothing
here parses or compiles it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Place = Literal["fence", "answer", "text"]
Rule = Literal["auto", "fence", "answer", "text"]

RULES: Mapping[Rule, str] = MappingProxyType(
    {
        "auto": "the last fenced block (of the blocks marked python, if there are any); without a block, what is in "
        "the last <answer>…</answer>; without either, the whole text",
        "fence": "the last fenced block (of the blocks marked python, if there are any); without one, nothing",
        "answer": "what is in the last <answer>…</answer> (a fenced block in it, if it has one); without one, nothing",
        "text": "the whole text",
    }
)
"""What `extract` means, for `charter explain` and the docs."""
_PYTHON = ("python", "py", "python3", "py3")
_CLOSERS = (")", "]", "}", "#", '"""', "'''")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A program as it was found. place: which part of the rule found it."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    text: str
    language: str
    closed: bool


def extract_code(text: str, rule: Rule = "auto") -> Code | None:
    """The program in a completion by a rule of `RULES`; None where the rule finds nothing."""
    if rule in ("auto", "fence") and (block := last_block(text)) is not None:
        return Code(text=block, place="fence")
    if rule in ("auto", "answer") and (inner := last_answer(text)) is not None:
        return Code(text=last_block(inner) or inner, place="answer")
    return Code(text=text, place="text") if rule in ("auto", "text") else None


def last_block(text: str) -> str | None:
    """The content of the last fenced block, or None without one.

    Blocks marked python come before others; a block that the text ends in the middle of counts only where no block is
    closed. A text that begins with code and has one bare fence is a block up to there: the prompt had opened it.
    """
    blocks = list(_blocks(text))
    closed = [b for b in blocks if b.closed] or blocks
    python = [b for b in closed if b.language in _PYTHON] or closed
    return python[-1].text if python else None


def last_answer(text: str) -> str | None:
    """What stands between the last </answer> and the <answer> before it, or None."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    return text[start + len("<answer>") : end] if start >= 0 else None


def _blocks(text: str) -> Iterator[_Block]:
    before: list[str] = []
    lines: list[str] = []
    width = indent = 0
    language = ""
    for line in text.split("\n"):
        bare = line.strip()
        if not bare.startswith("`"):
            (lines if width else before).append(line[min(indent, len(line) - len(line.lstrip())) :] if width else line)
            continue
        ticks = len(bare) - len(bare.lstrip("`"))
        if not width:
            info = bare[ticks:].strip()
            if ticks < 3:
                before.append(line)
                continue
            if "`" not in info:
                width, indent, language, lines = ticks, len(line) - len(line.lstrip()), _language(info), []
            elif info.endswith("`" * ticks):  # a whole block in one line
                yield _one_line(info[: len(info) - ticks])
        elif ticks >= width and ticks == len(bare):
            yield _Block(text=_joined(lines), language=language, closed=True)
            width = 0
        else:
            lines.append(line[min(indent, len(line) - len(line.lstrip())) :])
    if not width:
        return
    if not language and _begins_with_code(before):
        yield _Block(text=_joined(before), language="", closed=False)
    elif any(line.strip() for line in lines):
        yield _Block(text=_joined(lines), language=language, closed=False)


def _begins_with_code(lines: list[str]) -> bool:
    first = next((line for line in lines if line.strip()), "")
    return first.startswith(("def ", "import ", "from ", "class ", "@", "async def "))


def _one_line(inner: str) -> _Block:
    first, _, rest = inner.partition(" ")
    marked = first.lower() in _PYTHON and bool(rest.strip())
    return _Block(text=(rest if marked else inner).strip() + "\n", language="python" if marked else "", closed=True)


def _language(info: str) -> str:
    """`python`, `Python title="x"`, `{.python}` → python."""
    return info.split(" ", 1)[0].strip("{}.").lower()


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def defines(code: str, name: str) -> bool:
    """Whether a line at the margin defines a name: `def name(`, `class name`, `name =`."""
    for line in code.split("\n"):
        if name not in line:
            continue
        head = line.removeprefix("async ")
        for opening in ("def ", "class ", ""):
            if not head.startswith(opening + name):
                continue
            rest = head[len(opening) + len(name) :].lstrip(" \t")
            follows = {"def ": ("(", "["), "class ": ("(", ":", "["), "": ("=", ":")}[opening]
            if rest.startswith(follows) and not rest.startswith("=="):
                return True
    return False


def function_body(text: str) -> str:
    """A completion that goes on inside a function, up to the first line after it.

    A base model does not stop at the end of the body; what it writes at the margin is no part of it. Comments and lines
    that close a bracket or a text are.
    """
    kept: list[str] = []
    for line in text.split("\n"):
        # the first line goes on where the prompt stopped
        if kept and line and not line[0].isspace() and not line.startswith(_CLOSERS):
            break
        kept.append(line)
    return "\n".join(kept) + "\n"
