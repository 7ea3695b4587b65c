"""From a recipe's table to a chat model: the right one, or an error that names the key."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests have no packages

from sampler.failing_endpoint import FailingEndpoint

from charter.cli.chat import describe_usage, local_name, open_chat
from charter.errors import DataError, ModelError, UsageError
from charter.model.fingerprint import fingerprint
from charter.recipe.cai import ChatTable, JudgeTable
from charter.recipe.tables import LearnerTable
from charter.types import ChatRequest, Usage

ASKED = ChatRequest(id="r", messages=({"role": "user", "content": "one two"},), max_new_tokens=5)


def opened(table: ChatTable, **named: Any) -> Any:
    return open_chat(table, **({"model": "none", "learner": LearnerTable(device="cpu"), "seed": 0} | named))


def reply(model: Any) -> Any:
    async def run() -> Any:
        (got,) = [r async for r in model.generate([ASKED])]
        return got

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (JudgeTable(backend="openai", model="m"), r"\[judge\] url is missing: backend = \"openai\" needs the address"),
        (ChatTable(backend="openai", url="http://h/v1"), r"\[author\] model is missing"),
        (JudgeTable(backend="openai", url="h", model="m"), r"\[judge\] 'h' is no address of an endpoint"),
        (
            JudgeTable(backend="openai", url="http://h/v1", model="m", key_env="CHARTER_TEST_NO_KEY"),
            r"\[judge\] key_env names the environment variable CHARTER_TEST_NO_KEY, which is not set",
        ),
        (
            JudgeTable(backend="openai", url="http://h/v1", model="m", budget=2.0),
            r"\[judge\] budget is 2 and there is no price: give judge.input_price",
        ),
        (ChatTable(backend="scripted"), r"\[author\] script is missing"),
        (ChatTable(url="http://h/v1"), r"\[author\] url is .* set author.backend = \"openai\""),
    ],
)
def test_what_is_missing_is_named_by_its_key(table, told, monkeypatch):
    monkeypatch.delenv("CHARTER_TEST_NO_KEY", raising=False)
    with pytest.raises(UsageError, match=told):
        opened(table)


def test_a_script_and_one_that_is_not_there(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"reply": "so"}\n')
    assert reply(opened(ChatTable(backend="scripted", script=str(path)))).text == "so"
    with pytest.raises(DataError, match="cannot be read"):
        opened(ChatTable(backend="scripted", script=str(tmp_path / "none")))


def test_an_endpoint_gets_what_the_table_says(monkeypatch):
    monkeypatch.setenv("CHARTER_TEST_KEY", " sk-1 \n")
    with FailingEndpoint(fault=lambda body, tries: "500") as endpoint:
        table = JudgeTable(
            backend="openai", url=endpoint.url, model="big", key_env="CHARTER_TEST_KEY", retries=0, input_price=1.0,
            prefill="continue_final_message",
        )  # fmt: skip
        model = opened(table)
        assert "(1 try)" in reply(model).note
        assert model.name == f"openai:big@{endpoint.url.removeprefix('http://')}"
        assert "begin" in model.capabilities
        assert "Bearer sk-1\r\n" in endpoint.heads[0]


def test_a_local_model_is_named_by_its_files_and_not_by_its_place(tiny_folder, tiny_policy, tmp_path):
    folder = tiny_folder("llama")
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    model = opened(ChatTable(), model=str(folder))
    assert reply(model).stop in ("eos", "length")
    assert model.name == f"local:{folder.name}@{fingerprint(folder)}"
    assert local_name(str(copy)) == model.name
    (copy / "tokenizer_config.json").write_text("{}")
    assert local_name(str(copy)) != model.name
    given = tiny_policy("llama")
    assert opened(ChatTable(model=str(folder)), policy=given).policy is given
    assert local_name("someone/model") == "local:someone/model"
    for weights in copy.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelError, match="has no weights"):
        fingerprint(copy)


def test_usage_is_one_line():
    assert describe_usage(Usage(requests=1, prompt_tokens=7, completion_tokens=3, seconds=0.25)) == (
        "1 request, 7 + 3 tokens, 0.2 s"
    )
    usage = Usage(
        requests=1200, retries=2, failures=3, prompt_tokens=45000, completion_tokens=6000, cost=0.01234, seconds=61.0
    )
    assert describe_usage(usage) == "1,200 requests, 2 retries, 3 failed, 45,000 + 6,000 tokens, cost 0.01234, 61.0 s"
    assert describe_usage(Usage(requests=2, retries=1)) == "2 requests, 1 retry, tokens not told, 0.0 s"
