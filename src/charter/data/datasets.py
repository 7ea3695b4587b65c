"""A [data] table → prompts to train on, prompts held out, examples to imitate, pairs to prefer by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from charter.data.messages import check_template, example_messages, pair_messages, prompt_messages
from charter.data.ordering import EpochOrder, PromptSource
from charter.data.procedural import generate_rows, is_procedural
from charter.data.reading import Located, read_rows
from charter.data.settings import DataSettings
from charter.errors import DataError
from charter.types import Example, Message, Pair, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """Prompts, split.

    train: the order to train in. held_out: for evaluation; no conversation is on both sides. columns: names a reward
    may ask for. source: where they came from. dropped: identical rows that were left out.
    """

    train: PromptSource
    held_out: tuple[Prompt, ...]
    columns: tuple[str, ...]
    source: str
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSet:
    """Examples to imitate; train: the order to train in. dropped: identical rows that were left out."""

    train: EpochOrder[Example]
    columns: tuple[str, ...]
    source: str
    dropped: int = 0

    def steps(self, examples_per_step: int, *, start: int = 1) -> Iterator[tuple[int, tuple[Example, ...]]]:
        """Yield (step, examples) without end, as `EpochOrder.steps`."""
        return self.train.steps(examples_per_step, start=start)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSet:
    """Pairs to learn a preference from; train: the order to train in. dropped: identical rows that were left out.

    held_out: pairs whose prompts are not trained on.
    """

    train: EpochOrder[Pair]
    source: str
    dropped: int = 0
    held_out: tuple[Pair, ...] = ()

    def steps(self, pairs_per_step: int, *, start: int = 1) -> Iterator[tuple[int, tuple[Pair, ...]]]:
        """Yield (step, pairs) without end, as `EpochOrder.steps`."""
        return self.train.steps(pairs_per_step, start=start)


def load_prompts(table: DataSettings, seed: int) -> PromptSet:
    """Read, validate, drop repeats, split.

    Args:
        table: a recipe's [data]. seed: fixes procedural questions and the order; not which prompts are held out.

    Raises:
        DataError: naming the file, the line, what was found and what was expected.
        MissingExtra: the source needs a package that is not installed.
    """
    if table.prompts is None:
        raise DataError(
            "data.prompts is not set. Name a file, arithmetic:addition, programs:tiny, reasoning_gym:TASK or hf:NAME"
        )
    source = table.prompts
    if table.template is not None:
        check_template(table.template)
    used = _used_columns(table.template)
    prompts: dict[str, tuple[str, Prompt]] = {}
    columns: dict[str, None] = {}
    dropped = 0
    for where, row in _rows(source, table, seed):
        messages = prompt_messages(row, where, table.template, table.system)
        fields = {key: value for key, value in row.items() if key not in used and key != "id"}
        name = _identity(row, where, messages, fields)
        columns.update(dict.fromkeys(fields))
        prompt = Prompt(id=name, messages=messages, fields=fields)
        dropped += _add(prompts, where, prompt)
    _refuse_empty(source, prompts)
    everything = [prompt for _, prompt in prompts.values()]
    train, held_out = _split(everything, table.held_out, source)
    return PromptSet(
        train=EpochOrder(train, seed, source),
        held_out=held_out,
        columns=tuple(columns),
        source=source,
        dropped=dropped,
    )


def load_examples(table: DataSettings, seed: int) -> ExampleSet:
    """Read and validate conversations to imitate, and drop repeats.

    Args:
        table: a recipe's [data]. seed: fixes the order.

    Raises:
        DataError: naming the file, the line, what was found and what was expected.
        MissingExtra: the source needs a package that is not installed.
    """
    if table.examples is None:
        raise DataError("data.examples is not set. Name a .jsonl or .parquet file or hf:NAME")
    source = table.examples
    if is_procedural(source):
        raise DataError(f"{source}: it makes questions, not conversations to imitate. Name a file or hf:NAME")
    examples: dict[str, tuple[str, Example]] = {}
    columns: dict[str, None] = {}
    dropped = 0
    # options and size belong to the prompts where a recipe has both
    shared = table.prompts is None
    for where, row in read_rows(source, table.options if shared else {}, table.size if shared else None):
        messages = example_messages(row, where, table.system)
        columns.update(dict.fromkeys(row))
        dropped += _add(examples, where, Example(id=_identity(row, where, messages, {}), messages=messages))
    _refuse_empty(source, examples)
    return ExampleSet(
        train=EpochOrder([example for _, example in examples.values()], seed, source),
        columns=tuple(columns),
        source=source,
        dropped=dropped,
    )


def load_pairs(table: DataSettings, seed: int, *, hold_out: bool = False) -> PairSet:
    """Read and validate pairs of answers, and drop repeats.

    Args:
        table: a recipe's [data]; where it has prompts too, template, options and size are theirs.
        seed: fixes the order. hold_out: keep all pairs of `table.held_out` prompts for evaluation.

    Raises:
        DataError: naming the file, the line, what was found and what was expected.
        MissingExtra: the source needs a package that is not installed.
    """
    if table.pairs is None:
        raise DataError("data.pairs is not set. Name a .jsonl or .parquet file or hf:NAME")
    source = table.pairs
    if is_procedural(source):
        raise DataError(f"{source}: it makes questions, not pairs of answers. Name a file or hf:NAME")
    own = table.prompts is None
    template = table.template if own else None
    if template is not None:
        check_template(template)
    pairs: dict[str, tuple[str, Pair]] = {}
    dropped = 0
    for where, row in read_rows(source, table.options if own else {}, table.size if own else None):
        messages, a, b, p = pair_messages(row, where, template, table.system)
        name = _identity(row, where, messages, {"chosen": a, "rejected": b, "p": p})
        dropped += _add(pairs, where, Pair(id=name, prompt=Prompt(id=name, messages=messages), a=a, b=b, p=p))
    _refuse_empty(source, pairs)
    asked = table.held_out if hold_out else 0
    return pair_set([pair for _, pair in pairs.values()], seed, source, held_out=asked, dropped=dropped)


def pair_set(pairs: Sequence[Pair], seed: int, source: str, *, held_out: int | None = 0, dropped: int = 0) -> PairSet:
    """Pairs in the order to train in, and those of `held_out` prompts kept back, chosen by a hash of the conversation.

    held_out: prompts; None: a tenth, at most 64, and none of fewer than 100. Which prompts are kept does not depend on
    the seed. Raises: DataError where none would be left to train on.
    """
    by_prompt: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_prompt.setdefault(_digest(list(pair.prompt.messages)), []).append(pair)
    total = len(by_prompt)
    count = held_out if held_out is not None else (min(64, total // 10) if total >= 100 else 0)
    if count >= total:
        raise DataError(
            f"{source}: data.held_out = {count} of {total} prompts leaves none to train on. Hold out fewer or add data"
        )
    chosen = set(sorted(by_prompt)[:count])
    train = [pair for pair in pairs if _digest(list(pair.prompt.messages)) not in chosen]
    kept = tuple(pair for digest in sorted(chosen) for pair in by_prompt[digest])
    return PairSet(train=EpochOrder(train, seed, source), source=source, dropped=dropped, held_out=kept)


T = TypeVar("T", Prompt, Example, Pair)


def _rows(source: str, table: DataSettings, seed: int) -> Iterator[Located]:
    if is_procedural(source):
        return generate_rows(source, table.options, table.size, seed)
    return read_rows(source, table.options, table.size)


def _used_columns(template: str | None) -> tuple[str, ...]:
    # with a template every column stays: `question` may be what a reward reads
    return ("prompt",) if template is None else ()


def _identity(row: Mapping[str, Any], where: str, messages: Sequence[Message], fields: Mapping[str, Any]) -> str:
    """The row's own id, or a hash of what it says."""
    if (given := row.get("id")) is not None:
        if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
            raise DataError(f"{where}: the id is {given!r}, expected a text or a whole number")
        return str(given)
    return _digest({"messages": list(messages), "fields": fields})


def _add(found: dict[str, tuple[str, T]], where: str, item: T) -> int:
    """Keep the item unless it is there already; 1 when it was dropped.

    Raises:
        DataError: another row has the same id and says something else.
    """
    if item.id not in found:
        found[item.id] = (where, item)
        return 0
    first, same = found[item.id]
    if same != item:
        raise DataError(
            f"{where}: the id {item.id!r} is that of {first} too, and the rows differ. Give each its own id"
        )
    return 1


def _refuse_empty(source: str, found: Mapping[str, object]) -> None:
    if not found:
        raise DataError(f"{source}: it holds no rows. Give a data set with at least one")


def _split(prompts: Sequence[Prompt], asked: int | None, source: str) -> tuple[list[Prompt], tuple[Prompt, ...]]:
    """Hold out `asked` prompts by the hash of their conversation.

    Conversations that stand in several rows go to one side together; one that would overfill is passed over.
    """
    total = len(prompts)
    count = asked if asked is not None else (min(64, total // 10) if total >= 100 else 0)
    if count >= total:
        raise DataError(
            f"{source}: data.held_out = {count} of {total} prompts leaves none to train on. Hold out fewer or add data"
        )
    by_conversation: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_conversation.setdefault(_digest(list(prompt.messages)), []).append(prompt)
    held_out: list[Prompt] = []
    chosen: set[str] = set()
    for digest in sorted(by_conversation):
        if len(held_out) + len(by_conversation[digest]) <= count:
            held_out += by_conversation[digest]
            chosen |= {prompt.id for prompt in by_conversation[digest]}
    if asked and not held_out:
        raise DataError(
            f"{source}: every conversation stands in more than data.held_out = {asked} rows, so none can be held out. "
            "Hold out more"
        )
    return [prompt for prompt in prompts if prompt.id not in chosen], tuple(sorted(held_out, key=lambda p: p.id))


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=repr)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
