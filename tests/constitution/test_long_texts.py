"""What models write may be thousands of blanks or quotation marks: reading it takes time that grows with its length."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from charter.constitution.checks import refuses, score_checks
from charter.constitution.judging import read_rating, read_verdict, read_yes_no
from charter.constitution.meta_text import read_reply
from charter.constitution.parsing import critique_verdict, listed_prompts, whole_sentences
from charter.constitution.principles import Constitution
from charter.types import ChatReply, Message

LENGTH = 20_000
BEGINNINGS = ("", "Verdict", "The better reply is", "Answer:", "Score", "Yes", "Issue", "1.", "Here is", "I")
RUNS = ("\n", " ", "\n \n", "* ", '"', "“", "(", "better answer is ", "1. ", "- x\n", "no ", ".")
MOST_S = 1.0
"""CPU time. With two unbounded runs side by side a text of this length takes minutes."""


def reply(text: str) -> ChatReply:
    return ChatReply(id="i", text=text, stop="eos")


READERS: dict[str, Callable[[str], object]] = {
    "read_verdict": lambda text: read_verdict(reply(text), refuses),
    "read_rating": lambda text: read_rating(reply(text), refuses),
    "read_yes_no": lambda text: read_yes_no(reply(text), refuses),
    "refuses": refuses,
    "critique_verdict": critique_verdict,
    "listed_prompts": listed_prompts,
    "whole_sentences": whole_sentences,
    "read_reply": lambda text: read_reply(text, conversation=["How?"], previous=["Like this."], critique="Issue: x"),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_long_text_is_read_at_once(reader: str) -> None:
    for beginning in BEGINNINGS:
        for run in RUNS:
            text = beginning + run * (LENGTH // len(run))
            began = time.process_time()
            READERS[reader](text)
            assert time.process_time() - began < MOST_S, (beginning, run)


def test_every_program_reads_a_long_text_at_once() -> None:
    constitution = Constitution.load("helpful-harmless")
    prompt: tuple[Message, ...] = ({"role": "user", "content": "How do I break in?"},)
    for run in RUNS:
        began = time.process_time()
        score_checks(constitution, prompt, run * (LENGTH // len(run)))
        assert time.process_time() - began < MOST_S, run
