"""Rejection sampling as a stage of data: a model answers, rewards choose, and what they let pass becomes examples.

records.jsonl    one record per prompt that was answered; a run that was killed asks none of them again
examples.jsonl   {"messages": […]} per example, own ones in the order of the prompts, then those mixed in
summary.json     how many there were at each point
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.cli.compose import Inputs, load_model, read_inputs
from charter.cli.display import Display, Facts
from charter.cli.session import StopRequest
from charter.data import load_examples
from charter.errors import DataError, RunError
from charter.protocols import Reward, Sampler
from charter.recipe import DataTable, Recipe
from charter.recipe.pipeline import CollectionTable
from charter.run.atomic import write_text
from charter.run.metrics import describe_groups
from charter.run.records import Journal, Row
from charter.sampler.local import LocalSampler
from charter.train.pipeline import StageStopped
from charter.train.scoring import refuse_failures, score_as_they_finish
from charter.types import Prompt, Scored, Update

BATCH = 16
"""Prompts between two displays of progress; a completion does not depend on what else is sampled with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """A stage in progress."""

    recipe: Recipe
    table: CollectionTable
    prompts: Sequence[Prompt]
    sampler: Sampler
    reward: Reward
    journal: Journal

    async def answer(self, display: Display, stop: StopRequest) -> None:
        """Sample and score every prompt that has no record yet. Raises: StageStopped, RewardError."""
        batches = [self.prompts[at : at + BATCH] for at in range(0, len(self.prompts), BATCH)]
        for number, batch in enumerate(batches, start=1):
            missing = [prompt for prompt in batch if ("sampled", prompt.id) not in self.journal]
            if not missing:
                continue
            if stop.asked:
                raise StageStopped(
                    f"sampling stopped after {len(self.journal)} of {len(self.prompts)} prompts, everything saved"
                )
            groups = self.sampler.sample(missing, self.recipe.sampling, 1, stream="rejection")
            scored = [item async for item in score_as_they_finish(groups, self.reward)]
            refuse_failures(scored, self.table.max_error_rate)
            for item in scored:
                self.journal.append(record_of(item, self.table, self.recipe.seed))
            self.journal.sync()
            display.update(Update(step=number, version=0, metrics=describe_groups(scored, ())))


def record_of(item: Scored, table: CollectionTable, seed: int) -> Row:
    """What came of one prompt: counts, and the completions that are kept.

    A completion passes with a reward of at least the threshold; one that was cut off at its token limit, or is empty,
    does not: who imitates it learns to stop in the middle. Equal texts count once.
    """
    values = [score.value for score in item.scores]
    good = [i for i, value in enumerate(values) if value is not None and value >= table.threshold]
    whole = [i for i in good if item.group.rollouts[i].stop == "eos" and item.group.rollouts[i].text.strip()]
    prompt = item.group.prompt.id

    def rank(i: int) -> tuple[Any, int]:
        if table.choose == "shortest":
            return len(item.group.rollouts[i].tokens), i
        return _drawn(seed, "choose", prompt, i), i

    kept: dict[str, int] = {}
    for i in sorted(whole, key=rank):
        if len(kept) < table.keep:
            kept.setdefault(item.group.rollouts[i].text, i)
    return {
        "kind": "sampled",
        "id": prompt,
        "completions": len(values),
        "scored": sum(value is not None for value in values),
        "passed": len(good),
        "cut_off": len(good) - len(whole),
        "kept": [{"index": i, "text": text, "reward": values[i]} for text, i in kept.items()],
    }


def examples_of(prompts: Sequence[Prompt], rows: Mapping[str, Row]) -> Iterator[dict[str, Any]]:
    """One conversation per kept completion, in the order of the prompts."""
    for prompt in prompts:
        for kept in rows[prompt.id]["kept"]:
            yield {"messages": [*prompt.messages, {"role": "assistant", "content": kept["text"]}]}


def mixed_in(table: CollectionTable, seed: int) -> list[dict[str, Any]]:
    """The examples of another file, `mix_rows` of them by a hash with the seed, in the file's order."""
    if not table.mix:
        return []
    found = list(load_examples(DataTable(examples=table.mix), seed).train.items)
    if table.mix_rows is not None and table.mix_rows > len(found):
        raise DataError(f"{table.mix} has {len(found)} examples, and rejection.mix_rows asks for {table.mix_rows}")
    chosen = {e.id for e in sorted(found, key=lambda e: _drawn(seed, "mix", e.id))[: table.mix_rows]}
    return [{"messages": list(example.messages)} for example in found if example.id in chosen]


async def sample_examples(
    table: CollectionTable,
    recipe: Recipe,
    folder: Path,
    made_under: Mapping[str, str],
    *,
    display: Display,
    stop: StopRequest,
) -> dict[str, Any]:
    """The stage: answer, choose, write `folder/examples.jsonl`.

    Args:
        table: which completions are kept. recipe: model, prompts, sampling and rewards of the stage. made_under: what
            else the completions depend on, by name; records made under something else are refused.

    Returns:
        {"examples": rows of the file, "prompts", "answered": prompts with a kept completion, "completions", "passed",
        "cut_off", "kept", "duplicates", "mixed"}

    Raises:
        StageStopped: asked to stop, everything sampled so far written. RunError: fewer own examples than
        `rejection.at_least`. RewardError, DataError, StoreError.
    """
    inputs = read_inputs(recipe)
    prompts = _prompts(inputs, table)
    other = mixed_in(table, recipe.seed)
    choice = hashlib.sha256(table.model_dump_json(exclude={"mix", "mix_rows", "at_least", "prompts"}).encode())
    made_under = {**made_under, "data": inputs.digest(), "rejection": choice.hexdigest()}
    assert inputs.rubric is not None
    try:
        with Journal.open(folder / "records.jsonl", made_under) as journal:
            missing = [prompt for prompt in prompts if ("sampled", prompt.id) not in journal]
            if missing:
                await inputs.rubric.ready()
                sampling = Sampling(
                    recipe=recipe, table=table, prompts=prompts, sampler=LocalSampler(load_model(recipe), recipe.seed),
                    reward=inputs.rubric, journal=journal,
                )  # fmt: skip
                first = (len(prompts) - len(missing)) // BATCH + 1
                steps = -(-len(prompts) // BATCH)
                display.start(
                    Facts(
                        name=folder.name, method="rejection sampling", model=recipe.model, steps=steps,
                        folder=str(folder), first=first,
                    )
                )  # fmt: skip
                await sampling.answer(display, stop)
            rows = {str(row["id"]): row for row in journal.of_kind("sampled")}
            return _write(folder, prompts, rows, other, table)
    finally:
        display.finish()
        await inputs.rubric.close()


def _prompts(inputs: Inputs, table: CollectionTable) -> Sequence[Prompt]:
    assert inputs.prompts is not None
    prompts = inputs.prompts.train.items
    if table.prompts is not None and table.prompts > len(prompts):
        raise DataError(
            f"{inputs.prompts.source} has {len(prompts)} prompts to train on, and rejection.prompts asks for "
            f"{table.prompts}"
        )
    if any(message["role"] == "text" for prompt in prompts for message in prompt.messages):
        raise DataError(
            f"{inputs.prompts.source} has plain texts, and an example is a conversation. Give data.template, which "
            "makes a user's turn of a row"
        )
    chosen = sorted(prompts, key=lambda prompt: _drawn(inputs.recipe.seed, "prompt", prompt.id))[: table.prompts]
    return tuple(chosen)


def _write(
    folder: Path,
    prompts: Sequence[Prompt],
    rows: Mapping[str, Row],
    other: list[dict[str, Any]],
    table: CollectionTable,
) -> dict[str, Any]:
    own: dict[str, None] = {}
    kept = 0
    for example in examples_of(prompts, rows):
        kept += 1
        own.setdefault(json.dumps(example, ensure_ascii=False))
    if len(own) < table.at_least:
        tried = sum(rows[prompt.id]["completions"] for prompt in prompts)
        raise RunError(
            f"{folder.name}: of {tried} completions only {len(own)} became examples, and rejection.at_least is "
            f"{table.at_least}. Lower rejection.threshold (now {table.threshold:g}), or sample more of each prompt"
        )
    lines = dict.fromkeys([*own, *(json.dumps(example, ensure_ascii=False) for example in other)])
    write_text(folder / "examples.jsonl", "".join(f"{line}\n" for line in lines))
    counts = {key: sum(rows[prompt.id][key] for prompt in prompts) for key in ("completions", "passed", "cut_off")}
    result = {
        "examples": len(lines),
        "prompts": len(prompts),
        "answered": sum(bool(rows[prompt.id]["kept"]) for prompt in prompts),
        **counts,
        "kept": kept,
        "duplicates": kept + len(other) - len(lines),
        "mixed": len(lines) - len(own),
    }
    write_text(folder / "summary.json", json.dumps(result, indent=1) + "\n")
    return result


def _drawn(seed: int, *words: object) -> bytes:
    return hashlib.sha256(json.dumps([seed, *words]).encode()).digest()
