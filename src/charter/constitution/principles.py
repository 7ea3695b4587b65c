"""A constitution: principles a reader can judge, in one TOML file that can be hashed, drawn from, linted and compared.

    constitution = Constitution.load("helpful-harmless")          # a shipped one, or a path
    principle = draw(constitution, "weighted", seed=0, key=prompt.id, step=1)

*Not here*: the file format (`reading`, `writing`, `schema`), draws (`drawing`), `linting`, `differing`, other people's
formats (`importing`), programs that decide a check (`checks`).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from charter.errors import DataError

if TYPE_CHECKING:
    from charter.constitution.differing import Difference
    from charter.constitution.drawing import Strategy
    from charter.constitution.importing import Imported
    from charter.constitution.linting import Finding

Phrasing = Literal["critique", "revision", "preference"]

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the constitutions that come with Charter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A yes/no question about a reply; a rubric is a list of them.

    wanted: the answer a good reply gets. weight: its share among the principle's checks, ≥ 0. program: name of the
    program that can answer it, one of `charter.constitution.checks.PROGRAMS`, or None where only a reader can.
    """

    question: str
    wanted: bool = True
    weight: float = 1.0
    program: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Principle:
    """One rule and how a model is asked about it.

    id: short name, unique in its constitution. title: for people. text: the rule, in one or two sentences. reason: why
    it is there. weight: how often it is drawn under "weighted", relative to the others, ≥ 0. critique, revision,
    preference: the sentences a model is asked; `phrasing` gives one made of `text` where it is empty.
    """

    id: str
    text: str
    title: str = ""
    reason: str = ""
    weight: float = 1.0
    tags: tuple[str, ...] = ()
    critique: str = ""
    revision: str = ""
    preference: str = ""
    checks: tuple[Check, ...] = ()

    def phrasing(self, kind: Phrasing) -> str:
        """The sentence to ask a model: the written one, or one made of the rule where none was written."""
        if written := str(getattr(self, kind)).strip():
            return written
        return {
            "critique": f"Say in which ways the reply breaks this rule, if it does: {self.text}",
            "revision": f"Rewrite the reply so that it keeps this rule: {self.text}",
            "preference": f"Which reply keeps this rule better? {self.text}",
        }[kind]


@dataclass(frozen=True, kw_only=True)
class Constitution:
    """Principles with a name.

    version: a label for people; what records are made under is `hash`. prose: Markdown that says what it is for.
    source: the file it was read from, "" otherwise. lines: where each key stands in it, for messages.
    """

    name: str
    principles: tuple[Principle, ...]
    version: str = "1"
    prose: str = ""
    source: str = field(default="", compare=False)
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, path_or_name: str | Path) -> Constitution:
        """Read a shipped constitution by its name, or any by its path.

        Raises: DataError, naming file, line and key of everything that is wrong; what `lint` finds is no error here.
        """
        from charter.constitution.reading import read_constitution

        return read_constitution(path_or_name)

    @classmethod
    def from_toml(cls, text: str, source: str = "") -> Constitution:
        """A constitution out of the text of its file; `source` names it in messages."""
        from charter.constitution.reading import parse_constitution

        return parse_constitution(text, source)

    @classmethod
    def from_file(cls, path: str | Path, name: str | None = None) -> Imported:
        """A constitution out of another project's JSON or a Markdown list, with what could not be mapped."""
        from charter.constitution.importing import import_constitution

        return import_constitution(path, name)

    @classmethod
    def from_json(cls, data: Any, name: str = "imported") -> Imported:
        """A constitution out of parsed JSON, in one of the shapes of `charter.constitution.importing`."""
        from charter.constitution.importing import import_json

        return import_json(data, name)

    @classmethod
    def from_markdown(cls, text: str, name: str = "imported") -> Imported:
        """A constitution out of a Markdown list: one principle per item."""
        from charter.constitution.importing import import_markdown

        return import_markdown(text, name)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over everything that is asked, as hexadecimal.

        The name, the version, the order of the principles, of keys and of tags, and the width of lines do not count.
        """
        rows = sorted(_canonical(asdict(principle)) for principle in self.principles)
        return hashlib.sha256(json.dumps([_folded(self.prose), rows]).encode()).hexdigest()

    @property
    def ids(self) -> tuple[str, ...]:
        """The principles' ids, in order."""
        return tuple(principle.id for principle in self.principles)

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag, sorted."""
        return tuple(sorted({tag for principle in self.principles for tag in principle.tags}))

    def principle(self, id: str) -> Principle:
        """The principle of that id. Raises: DataError where there is none, or several."""
        found = [principle for principle in self.principles if principle.id == id]
        if len(found) == 1:
            return found[0]
        count = "no principle" if not found else f"{len(found)} principles"
        there = ", ".join(self.ids) or "none"
        raise DataError(f"constitution {self.name!r} has {count} with the id {id!r}. There are: {there}")

    def tagged(self, tags: Iterable[str]) -> Constitution:
        """Only the principles with one of these tags, in order; all of them where `tags` is empty.

        Raises: DataError for a tag that no principle has.
        """
        wanted = {tags} if isinstance(tags, str) else set(tags)
        if not wanted:
            return self
        if unknown := sorted(wanted - set(self.tags)):
            names = ", ".join(map(repr, unknown))
            raise DataError(
                f"constitution {self.name!r} has no principle tagged {names}. Its tags are: {', '.join(self.tags)}"
            )
        kept = tuple(principle for principle in self.principles if wanted & set(principle.tags))
        # lines are those of the whole file: they would name the wrong principle
        return replace(self, principles=kept, lines={})

    def sample(self, rng: random.Random, strategy: Strategy = "uniform") -> Principle:
        """Draw a principle with a generator; see `charter.constitution.drawing` for the strategies.

        "round_robin" hands out the principles in order, over the calls with the same generator. A run draws with
        `draw` instead, which depends on nothing that was drawn before.
        """
        from charter.constitution.drawing import sample

        return sample(self, rng, strategy)

    def diff(self, other: Constitution) -> Difference:
        """What `other` has more, less and differently than this one."""
        from charter.constitution.differing import difference

        return difference(self, other)

    def lint(self) -> list[Finding]:
        """Everything that is doubtful about it; an empty list where nothing is."""
        from charter.constitution.linting import lint

        return lint(self)

    def to_toml(self) -> str:
        """The text of its file; `from_toml` makes an equal constitution of it."""
        from charter.constitution.writing import to_toml

        return to_toml(self)


def shipped_constitutions() -> tuple[str, ...]:
    """Names of the constitutions that come with Charter."""
    return tuple(sorted(file.stem for file in SHIPPED.glob("*.toml")))


def _folded(text: str) -> str:
    return " ".join(text.split())


def _canonical(value: Any) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, str):
            return _folded(item)
        if isinstance(item, dict):
            return {key: sorted(set(inner)) if key == "tags" else plain(inner) for key, inner in item.items()}
        if isinstance(item, int | float) and not isinstance(item, bool):
            return float(item)
        return [plain(inner) for inner in item] if isinstance(item, list | tuple) else item

    return json.dumps(plain(value), sort_keys=True)
