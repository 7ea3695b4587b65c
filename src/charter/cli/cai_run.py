"""The folder of a constitutional run: what it was made under, its prompts, and its one journal of records.

runs/<name>/  recipe.toml  manifest.json  records.jsonl  redteam.jsonl  sft.jsonl  sft.parquet  funnel.json  …

with open_cai_run(recipe, folder_of(recipe, path, run_dir)) as run:
    run.journal, run.constitution, run.sets, run.draw
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.constitution.principles import Constitution, Principle
    from charter.constitution.prompts import FewShot
    from charter.constitution.redteam import PromptSets
    from charter.recipe.cai import CaiRecipe
    from charter.run.records import Journal
    from charter.types import Prompt

RECORDS = "records.jsonl"

MADE_UNDER: Mapping[str, tuple[str, ...]] = {
    "constitution": ("draw", "tags"),
    "author": ("backend", "model", "url"),
    "judge": ("backend", "model", "url", "mode", "clamp", "ensemble", "max_new_tokens", "temperature"),
    "redteam": ("write", "helpful_replies", "max_new_tokens", "temperature"),
    "revise": (
        "steps", "critique", "assume_issue", "few_shot", "temperature", "max_new_tokens", "accept", "margin", "cut",
    ),
    "label": ("completions", "temperature", "max_new_tokens"),
    "learner": ("dtype",),
}  # fmt: skip
"""Table → keys on which records depend. What only decides what is done with them (sft_on, control, prices, budgets,
concurrency) may change between two runs of one folder."""


def folder_of(recipe: CaiRecipe, path: str | Path, run_dir: str | Path | None) -> Path:
    """Where a recipe's run lies: `run_dir`, or runs/ and its name, or its file's."""
    return Path(run_dir) if run_dir else Path("runs") / (recipe.name or Path(path).stem)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaiRun:
    """An open run.

    constitution: only the principles with the recipe's tags. sets: its prompts, those that the author writes apart.
    """

    recipe: CaiRecipe
    folder: Path
    constitution: Constitution
    sets: PromptSets
    journal: Journal

    def draw(self, key: str, step: int) -> Principle:
        """The principle for one step of one piece of work, as the recipe's [constitution] says."""
        from charter.constitution.drawing import draw

        return draw(self.constitution, self.recipe.constitution.draw, self.recipe.seed, key, step)

    def close(self) -> None:
        """Let another process write. Calling it again does nothing."""
        self.journal.close()

    def __enter__(self) -> CaiRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_cai_run(recipe: CaiRecipe, folder: Path, *, lock: bool = True) -> CaiRun:
    """Begin a run or go on with it.

    lock: hold the folder against other writers; False where the caller holds it.
    Raises: DataError for prompts or a constitution that cannot be used; StoreError where the folder is another kind of
    run, is written by another process, or holds records made under something else: the message names what differs.
    """
    from charter.constitution.principles import Constitution
    from charter.errors import StoreError
    from charter.recipe import dump_recipe
    from charter.run.atomic import remove_leftovers
    from charter.run.records import Journal

    constitution = Constitution.load(recipe.constitution.file).tagged(recipe.constitution.tags)
    sets = read_prompt_sets(recipe)
    if (folder / "recipe.toml").exists() and not (folder / RECORDS).exists():
        raise StoreError(
            f"{folder} holds a run of another kind (recipe.toml, and no {RECORDS}). Choose another name "
            "(name=… or --run-dir …)"
        )
    journal = Journal.open(folder / RECORDS, made_under(recipe, constitution, sets), lock=lock)
    try:
        if lock:
            remove_leftovers(folder)
        _describe(folder, dump_recipe(recipe), recipe.seed, constitution.hash, _digest(sets))
    except BaseException:
        journal.close()
        raise
    return CaiRun(recipe=recipe, folder=folder, constitution=constitution, sets=sets, journal=journal)


def made_under(recipe: CaiRecipe, constitution: Constitution, sets: PromptSets) -> dict[str, Any]:
    """What every record depends on: the head of the journal. Two runs that differ in it must not mix."""
    from charter.constitution.prompts import texts_id

    values: dict[str, Any] = {
        "constitution": constitution.hash, "model": recipe.model, "seed": recipe.seed, "redteam prompts": _digest(sets),
        "few-shot examples and templates": texts_id(worked_examples(recipe)),
    }  # fmt: skip
    for table, keys in MADE_UNDER.items():
        stated = getattr(recipe, table).model_dump(mode="json")
        values.update({f"{table}.{key}": stated[key] for key in keys})
    return values


def worked_examples(recipe: CaiRecipe) -> Sequence[FewShot]:
    """The examples of critique and revision, the recipe's own or the shipped ones, where the recipe shows any."""
    if not recipe.revise.few_shot:
        return ()
    from charter.constitution.examples import few_shots, read_few_shots

    return read_few_shots(recipe.revise.examples) if recipe.revise.examples else few_shots()


def refuse_another_author(journal: Journal, name: str) -> None:
    """Refuse to go on with drafts of another model: its weights changed under the same name.

    Raises: StoreError.
    """
    from charter.errors import StoreError

    for row in journal.of_kind("draft"):
        if row["purpose"] != "judge" and row["model"] != name:
            raise StoreError(
                f"{journal.path} holds replies of {row['model']}, and the author is {name} now: the model has changed. "
                "Put it back, or begin another run (name=… or --run-dir …)"
            )


def read_prompt_sets(recipe: CaiRecipe) -> PromptSets:
    """The prompts of [redteam], read, without repeats and split; those the author is to write are not among them.

    Raises: DataError for a file or row that cannot be used; AssetError for an asset that cannot be fetched.
    """
    from charter.constitution.redteam import prompt_sets
    from charter.errors import DataError

    table = recipe.redteam
    helpful: Sequence[Prompt] = ()
    if table.helpful_count or recipe.arena.helpful:
        helpful = read_prompts(table.helpful) if table.helpful else _shipped_helpful()
    tempting = read_prompts(table.prompts)
    for column, value in table.only.items():
        known = sorted({str(prompt.fields[column]) for prompt in tempting if column in prompt.fields})
        tempting = [prompt for prompt in tempting if prompt.fields.get(column) == value]
        if not tempting:
            there = ", ".join(known) or "none"
            raise DataError(f"redteam.only: no prompt of {table.prompts} has {column} = {value!r}; there is {there}")
    return prompt_sets(tempting, helpful, table, source=table.prompts)


def read_prompts(source: str) -> list[Prompt]:
    """Prompts out of a data asset, a .txt file (one per line), or rows with `messages`, or `prompt` or `question`.

    Raises: DataError naming file and line: no such file, no prompt in it, a conversation that ends with a reply.
    """
    from charter import assets
    from charter.constitution.redteam import make_prompt
    from charter.data.messages import conversation, prompt_messages
    from charter.data.reading import read_rows
    from charter.errors import DataError
    from charter.types import Message

    path = Path(source)
    asset = assets.ASSETS.get(source)
    if asset is not None and asset.kind == "data" and not path.exists():
        path = assets.get(source) / asset.rows
    if path.suffix == ".txt":
        found = [make_prompt([Message(role="user", content=line)], source) for line in _lines(path)]
    else:
        found = []
        for where, row in read_rows(str(path), {}, None):
            if "messages" in row:
                messages = conversation(row["messages"], f"{where}: messages")
            else:
                messages = prompt_messages(row, where, None, None)
            turns = [Message(role="user" if m["role"] == "text" else m["role"], content=m["content"]) for m in messages]
            if turns[-1]["role"] != "user":
                raise DataError(
                    f"{where}: the conversation ends with a turn of the role {turns[-1]['role']!r}, and a prompt ends "
                    "with the user's. Remove that turn"
                )
            columns = {key: value for key, value in row.items() if key not in ("messages", "prompt", "question")}
            found.append(make_prompt(turns, source, columns))
    if not found:
        raise DataError(f"{source}: it holds no prompts. Give a file with at least one")
    return found


def redteam_rows(sets: PromptSets) -> list[dict[str, Any]]:
    """The lines of redteam.jsonl: every prompt that is used, what it is for and on which side of the split it is."""
    groups = (
        ("redteam", "train", sets.prompts), ("redteam", "held_out", sets.redteam.held_out),
        ("helpful", "train", sets.helpful.train), ("helpful", "held_out", sets.helpful.held_out),
    )  # fmt: skip
    return [
        {
            "id": prompt.id, "messages": [dict(message) for message in prompt.messages], "purpose": purpose,
            "split": split, "source": prompt.fields["source"],
        }
        for purpose, split, prompts in groups
        for prompt in prompts
    ]  # fmt: skip


def _shipped_helpful() -> list[Prompt]:
    from charter.constitution.examples import helpful_prompts
    from charter.constitution.redteam import make_prompt
    from charter.types import Message

    return [
        make_prompt([Message(role="user", content=one.prompt)], "shipped", {"helpful_id": one.id})
        for one in helpful_prompts()
    ]


def _lines(path: Path) -> list[str]:
    from charter.errors import DataError

    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file. Give a .txt or .jsonl file, or do-not-answer") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def _digest(sets: PromptSets) -> str:
    """Of every prompt that is used, and on which side."""
    groups = (sets.redteam.train, sets.redteam.held_out, sets.helpful.train, sets.helpful.held_out)
    ids = [[prompt.id for prompt in prompts] for prompts in groups]
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def _describe(folder: Path, recipe_toml: str, seed: int, constitution: str, prompts: str) -> None:
    """Write recipe.toml and manifest.json, where they are not there or say something else."""
    from charter.run.atomic import write_text
    from charter.run.manifest import build_manifest

    there = folder / "recipe.toml"
    if there.is_file() and there.read_text("utf-8") == recipe_toml and (folder / "manifest.json").is_file():
        return
    hashes = {"constitution": constitution, "prompts": prompts}
    manifest = build_manifest(recipe_toml, seeds={"run": seed}, hashes=hashes)
    write_text(folder / "manifest.json", json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    write_text(there, recipe_toml)
