"""`charter reward`: try a reward on completions that are already there (`rescore.py` has those of a run)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from charter.protocols import Reward
    from charter.types import Group, Message, Score

app = typer.Typer(help="Try rewards on completions that are already there.", no_args_is_help=True)
AT_ONCE = 4
"""Rows scored at the same time; each row's limit and seconds are its own."""


@app.callback()
def _family() -> None:
    """Try rewards on completions that are already there."""


def _messages(prompt: Any) -> tuple[Message, ...]:
    """A prompt column as messages: text stands for itself, a list of {"role", "content"} is a conversation."""
    if isinstance(prompt, str):
        return ({"role": "text", "content": prompt},)
    if isinstance(prompt, list) and prompt:
        sound = all(
            isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in prompt
        )
        if sound:
            return tuple({"role": m["role"], "content": m["content"]} for m in prompt)
    raise ValueError('"prompt" must be text or a list of {"role", "content"}')


def _completion(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list) and len(completion) == 1 and isinstance(completion[0], dict):
        content = completion[0].get("content")
        if isinstance(content, str):
            return content
    raise ValueError('"completion" must be text or a list of one {"role", "content"}')


def read_rows(path: Path) -> Iterator[Group]:
    """Each row of a JSON Lines file as a group of one completion, its other columns as the prompt's fields.

    Raises: DataError that names file and line.
    """
    from charter.errors import DataError
    from charter.reward import as_group
    from charter.types import Prompt

    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. Give a .jsonl file with --data") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: not UTF-8 text ({error}). Save the file as UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON ({error}). Each line must be one JSON table") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: found a {type(row).__name__}; expected a table with prompt and completion")
        for column in ("prompt", "completion"):
            if column not in row:
                have = ", ".join(map(repr, row)) or "none"
                raise DataError(f"{where}: the column {column!r} is missing (columns: {have}). Add it")
        try:
            messages, text = _messages(row.pop("prompt")), _completion(row.pop("completion"))
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        yield as_group(Prompt(id=where, messages=messages, fields=row), [text])


def parse_options(given: list[str], *, as_text: bool) -> dict[str, Any]:
    """`k=v` words as options.

    as_text: leave values that are no table or list as text, for a built-in reward's own model to read; a function gets
        numbers and booleans as JSON has them.
    Raises: UsageError for a word without "=" or a key given twice.
    """
    from charter.errors import UsageError

    options: dict[str, Any] = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--option {word!r}: expected key=value")
        if key in options:
            raise UsageError(f"--option {key}: given twice")
        options[key] = value
        if not as_text or value.lstrip().startswith(("{", "[")):
            try:
                options[key] = json.loads(value)
            except (ValueError, RecursionError):
                continue  # text as it stands
    return options


async def _score_all(reward: Reward, groups: list[Group]) -> int:
    """Print one line per row, in order; return how many failed."""
    import asyncio

    from charter.reward import Rubric

    whole = reward if isinstance(reward, Rubric) else Rubric([(reward, 1.0)])
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(group: Group) -> tuple[Score, float]:
        async with turns:
            return (await whole.score_timed(group))[0]

    failures = 0
    tasks: list[asyncio.Task[tuple[Score, float]]] = []
    try:
        await whole.ready()
        tasks = [asyncio.ensure_future(one(group)) for group in groups]
        for task in tasks:
            score, seconds = await task
            failures += score.status == "failed"
            line = {"score": score.value, "status": score.status, "note": score.note, "seconds": round(seconds, 6)}
            typer.echo(json.dumps(line))
    finally:
        for task in tasks:
            task.cancel()  # where one was interrupted, none may go on for nothing
        await whole.close()
    return failures


@app.command("test")
def score_rows(
    name: Annotated[
        str, typer.Argument(help="A built-in reward, path/to/file.py:function or package.module:function.")
    ],
    data: Annotated[Path, typer.Option(help="Rows {prompt, completion, ...columns}, one JSON table per line.")],
    option: Annotated[list[str] | None, typer.Option(help="An option of the reward, key=value; repeatable.")] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", help="Longest time one completion may take, in seconds.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON lines, no summary on standard error.")] = False,
) -> None:
    """Score rows: one JSON line each, {"score", "status", "note", "seconds"}.

    Exit code 0 when every row was scored or abstained, 1 when the reward failed on a row, 2 for bad usage.
    """
    import asyncio

    from charter.cli.reward_builders import reward_builders
    from charter.errors import CharterError, UsageError
    from charter.reward import load_reward, reward_names
    from charter.reward.adapt import FunctionReward
    from charter.reward.runtime import NamedReward

    try:
        groups = list(read_rows(data))
        if not groups:
            raise UsageError(f"{data}: there are no rows. Give a .jsonl file with prompt and completion on each line")
        builders = reward_builders()
        given = parse_options(option or [], as_text=name in reward_names(builders))
        reward = load_reward(name, timeout_s=timeout_s, builders=builders, **given)
        if isinstance(reward, NamedReward):
            for group in groups:
                problems = reward.check_columns(list(group.prompt.fields), group.prompt.id)
                if problems:
                    reward.shut_down()
                    raise UsageError("\n".join(map(str, problems)))
        failures = asyncio.run(_score_all(reward, groups))
    except CharterError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    if not as_json:
        if isinstance(reward, FunctionReward):
            typer.echo(f"{name}: signature {reward.signature}, since {reward.reason}", err=True)
        typer.echo(f"{len(groups)} rows, {failures} failed", err=True)
    raise typer.Exit(1 if failures else 0)
