"""From a table of a recipe to the chat model it names, and one line about what was asked of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charter.model.load import Policy
    from charter.protocols import ChatModel
    from charter.recipe.cai import ChatTable
    from charter.recipe.tables import LearnerTable
    from charter.types import Usage


def open_chat(
    table: ChatTable, *, model: str, learner: LearnerTable, seed: int, policy: Policy | None = None
) -> ChatModel:
    """The chat model of a table.

    Args:
        table: [author] or [judge]. model: the recipe's model, taken where the table names none.
        learner: device and arithmetic of a local model. seed: of the run; with a request's id it fixes a local
        model's draws. policy: the table's local model, if it is in memory already.

    Raises: UsageError naming the key that is missing or does not fit, ModelError for a model that does not load.
    """
    from charter.errors import UsageError

    where = "judge" if type(table).__name__ == "JudgeTable" else "author"
    if table.backend == "scripted":
        from charter.sampler.scripted import ScriptedChat

        if not table.script:
            raise UsageError(f'[{where}] script is missing: backend = "scripted" needs a .jsonl file of replies')
        return ScriptedChat(Path(table.script))
    if table.backend == "openai":
        return _remote(table, where)
    if table.url:
        raise UsageError(
            f'[{where}] url is {table.url!r}, and backend = "local" asks no endpoint: set {where}.backend = "openai"'
        )
    return local_chat(table.model or model, learner=learner, seed=seed, policy=policy)


def local_chat(source: str, *, learner: LearnerTable, seed: int, policy: Policy | None = None) -> ChatModel:
    """A chat model of this process: an asset, a folder or a Hugging Face id, or `policy`, loaded from it."""
    from charter.cli.compose import model_source
    from charter.model.load import load_policy
    from charter.sampler.engine import LocalChat

    if policy is None:
        policy = load_policy(model_source(source), device=learner.device, dtype=learner.dtype)
    return LocalChat(policy, name=local_name(source, policy), seed=seed)


def local_name(source: str, policy: Policy | None = None) -> str:
    """What records remember a local model by: the asset with its version, NAME@DIGEST of a folder, a Hugging Face id;
    and the arithmetic where it is not float32."""
    from charter import assets
    from charter.cli.compose import model_source
    from charter.model.fingerprint import fingerprint

    folder = Path(source)
    if folder.is_dir():
        name = f"local:{folder.resolve().name}@{fingerprint(folder)}"
    elif assets.is_asset(source):
        name = f"local:{source}@{fingerprint(model_source(source))}"
    else:
        name = f"local:{source}"
    narrow = policy is not None and str(policy.compute) == "torch.bfloat16"
    return f"{name}:bfloat16" if narrow else name


def describe_usage(usage: Usage) -> str:
    """One line: requests, retries, failures, tokens, cost and time."""
    parts = [_count(usage.requests, "request")]
    if usage.retries:
        parts.append(_count(usage.retries, "retry"))
    if usage.failures:
        parts.append(f"{usage.failures:,} failed")
    if usage.requests and not usage.prompt_tokens:
        parts.append("tokens not told")
    else:
        parts.append(f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens")
    if usage.cost:
        parts.append(f"cost {usage.cost:,.4g}" if usage.cost < 100 else f"cost {usage.cost:,.2f}")
    parts.append(f"{usage.seconds:.1f} s")
    return ", ".join(parts)


def _remote(table: ChatTable, where: str) -> ChatModel:
    from charter.errors import UsageError
    from charter.sampler.remote import OpenAIChat

    if not table.url:
        raise UsageError(
            f'[{where}] url is missing: backend = "openai" needs the address of an endpoint, like '
            "http://127.0.0.1:8000/v1"
        )
    if not table.model:
        raise UsageError(f'[{where}] model is missing: backend = "openai" needs the endpoint\'s name for its model')
    key = ""
    if table.key_env:
        key = os.environ.get(table.key_env, "").strip()
        if not key:
            raise UsageError(
                f"[{where}] key_env names the environment variable {table.key_env}, which is not set or empty: "
                f"export {table.key_env}=…, or leave key_env out for an endpoint without keys"
            )
    if table.budget is not None and not (table.input_price or table.output_price):
        raise UsageError(
            f"[{where}] budget is {table.budget:g} and there is no price: give {where}.input_price and "
            f"{where}.output_price, or limit {where}.budget_tokens"
        )
    try:
        return OpenAIChat(
            url=table.url,
            model=table.model,
            key=key,
            concurrency=table.concurrency,
            timeout_s=table.timeout_s,
            retries=table.retries,
            input_price=table.input_price,
            output_price=table.output_price,
            budget=table.budget,
            budget_tokens=table.budget_tokens,
            prefill=table.prefill,
        )
    except UsageError as error:
        raise UsageError(f"[{where}] {error}") from None


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
