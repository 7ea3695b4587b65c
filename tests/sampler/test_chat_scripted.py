"""The scripted chat model: where a reply comes from, what a file may say, and what is wrong with one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from charter.errors import BudgetError, DataError, UsageError
from charter.sampler.scripted import ScriptedChat
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest


def ask(model: ScriptedChat, *texts: str, most: int = 50) -> list[ChatReply]:
    requests = [
        ChatRequest(
            id=f"id of {text}", max_new_tokens=most,
            messages=({"role": "system", "content": "Be kind."}, {"role": "user", "content": text}),
        )
        for text in texts
    ]  # fmt: skip

    async def run() -> list[ChatReply]:
        return [reply async for reply in model.generate(requests)]

    return asyncio.run(run())


def weigh(model: ScriptedChat, *choices: str, text: str = "which") -> ChoiceReply:
    asked = ChoiceRequest(id="c", messages=({"role": "user", "content": text},), choices=choices)

    async def run() -> list[ChoiceReply]:
        return [reply async for reply in model.choice_logprobs([asked])]

    return asyncio.run(run())[0]


def file(folder: Path, text: str) -> Path:
    path = folder / "script.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_is_walked_through_and_a_request_that_comes_again_has_its_reply():
    model = ScriptedChat(["one", "two"])
    assert [r.text for r in ask(model, "a", "b", "c", "a", "b")] == ["one", "two", "one", "one", "two"]


def test_a_table_a_function_and_a_failure():
    assert [r.text for r in ask(ScriptedChat({"lock": "smith", "k": "K"}), "my lock", "kk")] == ["smith", "K"]
    missed = ask(ScriptedChat({"lock": "smith"}), "door")[0]
    assert (missed.stop, missed.note) == ("failed", "no row of the script fits 'door'")
    assert ask(ScriptedChat(lambda r: r.messages[0]["content"]), "x")[0].text == "Be kind."
    assert ask(ScriptedChat(lambda r: None), "x")[0].note == "the script has no reply"
    broken = ScriptedChat(["x"], fails=lambda r: "down" if "b" in r.messages[-1]["content"] else "")
    assert [(r.stop, r.note) for r in ask(broken, "a", "b")] == [("eos", ""), ("failed", "down")]
    assert (broken.usage.requests, broken.usage.failures) == (1, 1)


def test_a_reply_is_cut_after_as_many_words_as_tokens_are_allowed():
    cut, whole = ask(ScriptedChat(["one  two\nthree"]), "x", most=2)[0], ask(ScriptedChat(["one  two"]), "x", most=2)[0]
    assert (cut.text, cut.stop, cut.completion_tokens) == ("one  two", "length", 2)
    assert (whole.text, whole.stop) == ("one  two", "eos")


def test_the_first_row_that_fits_and_answers_is_taken(tmp_path):
    model = ScriptedChat(
        file(
            tmp_path,
            '{"match": "which", "choices": {"A": -0.5, "B": null}}\n\n'
            '{"regex": "^lock$", "reply": "exact"}\n'
            '{"match": "lock", "reply": ["Yes.", "No."]}\n'
            '{"match": "kind", "in": "all", "reply": "somewhere"}\n',
        )
    )
    assert model.capabilities == {"generate", "choice_logprobs", "begin"}
    assert ask(model, "lock")[0].text == "exact"
    assert {r.text for r in ask(model, *(f"lock {i}" for i in range(20)))} == {"Yes.", "No."}
    assert ask(model, "lock 3") == ask(model, "lock 3")
    assert ask(model, "which")[0].text == "somewhere"  # a row of choices does not answer a request for text
    assert weigh(model, "B", "A", "C").logprobs == (float("-inf"), -0.5, float("-inf"))
    assert weigh(model, "A", text="other").note == "no row of the script fits 'other'"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1: Expecting property name"),
        ("[1]", r"line 1: found \[1\], expected a row with the keys choices, fail, in, match, regex, reply"),
        ('{"match": "x"}', "line 1: the row says nothing; give it reply, choices or fail"),
        ('{"mach": "x", "reply": "y"}', "unknown key mach; a row has"),
        ('{"match": "x", "regex": "y", "reply": "z"}', "found match and regex; give one"),
        ('{"match": 3, "reply": "z"}', "match is 3, expected a text"),
        ('{"in": "first", "reply": "z"}', 'in is \'first\', expected "last" or "all"'),
        ('{"regex": "(", "reply": "z"}', r"regex '\(' is no regular expression"),
        ('{"reply": []}', r"reply is \[\], expected a text or a list of texts"),
        ('{"choices": {"A": 0.5}}', r"choices.A is 0.5, expected a log-probability \(at most 0\) or null"),
        ("", "is empty; give it rows like"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, line, told):
    with pytest.raises(DataError, match=told):
        ScriptedChat(file(tmp_path, line))


def test_a_file_that_is_not_there_and_scripts_that_say_nothing(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        ScriptedChat(tmp_path / "none.jsonl")
    with pytest.raises(TypeError, match="a text is no script"):
        ScriptedChat("yes")
    with pytest.raises(ValueError, match="at least one reply"):
        ScriptedChat([])


def test_the_budget_ends_after_as_many_requests():
    model = ScriptedChat(["x"], most=2)
    got: list[Any] = []

    async def run() -> None:
        asked = [
            ChatRequest(id=str(i), messages=({"role": "user", "content": "q"},), max_new_tokens=1) for i in range(5)
        ]
        async for reply in model.generate(asked):
            got.append(reply.id)

    with pytest.raises(BudgetError, match="2 requests is spent"):
        asyncio.run(run())
    assert got == ["0", "1"]


def test_choices_need_a_script_and_one_number_each():
    with pytest.raises(UsageError, match="has no script for choices"):
        weigh(ScriptedChat(["x"]), "A")
    assert "choice_logprobs" not in ScriptedChat(["x"]).capabilities
    assert weigh(ScriptedChat(["x"], lambda r: [-1.0, -2.0]), "A", "B").logprobs == (-1.0, -2.0)
    assert weigh(ScriptedChat(["x"], lambda r: None), "A").note == "the script has no log-probabilities"
    with pytest.raises(ValueError, match="gave 1 log-probabilities"):
        weigh(ScriptedChat(["x"], lambda r: [-1.0]), "A", "B")


def test_two_scripts_have_two_names_and_one_has_one(tmp_path):
    path = file(tmp_path, '{"reply": "a"}\n')
    name = ScriptedChat(path).name
    assert ScriptedChat(path).name == name
    file(tmp_path, '{"reply": "b"}\n')
    assert ScriptedChat(path).name != name
    assert (
        len({ScriptedChat(s).name for s in (["a"], ["b"], {"a": "b"})} | {ScriptedChat(["a"], {"A": -1.0}).name}) == 4
    )
    assert ScriptedChat(["a"], name="mine").name == "mine"
