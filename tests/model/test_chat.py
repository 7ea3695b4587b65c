"""Messages ⇄ tokens: what is asked, what the assistant wrote, what ends a completion."""

from __future__ import annotations

import pytest

from charter.errors import ModelError
from charter.model.chat import ChatFormat
from charter.types import Message

USER: Message = {"role": "user", "content": "Hé 1+1?"}
REPLY: Message = {"role": "assistant", "content": "2 ✓"}


@pytest.fixture
def chat(tokenizer) -> ChatFormat:
    return ChatFormat(tokenizer, [2])


def test_a_prompt_ends_where_the_assistant_starts(chat):
    text = chat.tokenizer.decode(chat.encode_prompt([USER]))
    assert text == "<|im_start|>user\nHé 1+1?<|im_end|>\n<|im_start|>assistant\n"


def test_plain_text_is_tokenized_as_it_stands(chat):
    assert chat.tokenizer.decode(chat.encode_prompt([{"role": "text", "content": "1+1="}])) == "1+1="


def test_the_assistant_wrote_its_words_and_its_end_token_only(chat):
    second = {"role": "user", "content": "3?"}
    tokens, written = chat.encode_example([USER, REPLY, second, REPLY])
    assert len(tokens) == len(written)
    assert chat.tokenizer.decode([t for t, w in zip(tokens, written, strict=True) if w]) == "2 ✓<|im_end|>" * 2
    full = chat.tokenizer.apply_chat_template([USER, REPLY, second, REPLY], tokenize=False)
    assert chat.tokenizer.decode(tokens) == full


def test_an_example_begins_with_exactly_the_ids_of_its_prompt(chat):
    prompt = chat.encode_prompt([USER])
    tokens, written = chat.encode_example([USER, REPLY])
    assert tokens[: len(prompt)] == prompt
    assert written[len(prompt)]
    assert not any(written[: len(prompt)])


def test_continued_text_is_closed_by_an_end_token(chat):
    tokens, written = chat.encode_example([{"role": "text", "content": "1+1="}, {"role": "assistant", "content": "2"}])
    assert chat.tokenizer.decode(tokens) == "1+1=2<|im_end|>"
    assert written == (False,) * 4 + (True,) * 2


def test_a_templates_end_of_turn_ends_a_completion_even_if_undeclared(tokenizer):
    declared = tokenizer.eos_token
    tokenizer.eos_token = "<|endoftext|>"
    try:
        assert ChatFormat(tokenizer, [77]).eos_ids == {0, 2, 77}
    finally:
        tokenizer.eos_token = declared


def test_a_conversation_without_a_template_is_refused_with_the_remedy(tokenizer):
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        with pytest.raises(ModelError, match=r"no chat template.*plain text"):
            ChatFormat(tokenizer, [2], source="m").encode_prompt([USER])
    finally:
        tokenizer.chat_template = template


def test_a_template_that_rewrites_earlier_turns_cannot_be_trained_on_several(tokenizer):
    template = tokenizer.chat_template
    tokenizer.chat_template = "{{ messages | length }}" + template
    try:
        with pytest.raises(ModelError, match="rewrites earlier turns"):
            ChatFormat(tokenizer, [2]).encode_example([USER, REPLY, USER, REPLY])
    finally:
        tokenizer.chat_template = template
