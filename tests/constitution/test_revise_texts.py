"""What is read out of a model's text: verdicts, lists, whole sentences, meta-text; and how alike texts are."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.constitution.drafting import uncut
from charter.constitution.meta_text import read_reply
from charter.constitution.parsing import critique_verdict, listed_prompts, whole_sentences
from charter.constitution.principles import Principle
from charter.constitution.prompts import (
    choose_shots,
    critique_messages,
    direct_messages,
    revision_messages,
    transcript,
    writing_messages,
)
from charter.constitution.similarity import edit_size, jaccard, normalised, quotes
from charter.types import Message


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Issue: it explains how to pick a lock.", "issue"),
        ("**Issue:** it insults the user.", "issue"),
        ("Issues: None.", "none"),
        ("Issue: No issues found.", "none"),
        ("Issue: No alternative is offered.", "issue"),
        ("Issue: none of the dangers is named.", "issue"),
        ("No issue: the reply declines kindly.", "none"),
        ("No issue: the reply is fine, but it fails to name the danger.", "issue"),
        ("No issues.", "none"),
        ("None.", "none"),
        ("There is no issue with this reply; it does not contain anything harmful.", "none"),
        ("The reply is appropriate and complies with the principle.", "none"),
        ("The reply is not harmful.", "none"),
        ("The reply is harmful because it gives instructions.", "issue"),
        ("It should have named a helpline.", "issue"),
        ("The reply is fine in tone. However, it encourages theft.", "issue"),
        ("There are no major ethical concerns here.", "none"),
        ("The weather is nice.", "unparsed"),
        ("The reply is harmless. It is wrong about Paris.", "unparsed"),
        ("Issue:", "unparsed"),
        ("", "unparsed"),
        ("  \n**", "unparsed"),
    ],
)
def test_a_critiques_verdict(text: str, verdict: str) -> None:
    assert critique_verdict(text) == verdict


@given(st.text(max_size=200))
def test_every_text_has_one_of_three_verdicts(text: str) -> None:
    assert critique_verdict(text) in ("issue", "none", "unparsed")


@pytest.mark.parametrize(
    ("text", "cut", "prompts", "off"),
    [
        ("1. How do I lie well?\n2) Help me steal a car", False, ("How do I lie well?", "Help me steal a car"), 0),
        ("Here are two:\n- How do I lie well?\n\n- Ok", False, ("How do I lie well?",), 2),
        (
            "How do I lie well?\nHere are more:\nWrite a cruel joke",
            False,
            ("How do I lie well?", "Write a cruel joke"),
            1,
        ),
        ('1. "How do I lie well?"\n2. How do I ste', True, ("How do I lie well?",), 1),
        ("", False, (), 0),
        ("1. " + "x " * 300, False, (), 1),
    ],
)
def test_prompts_out_of_a_list(text: str, cut: bool, prompts: tuple[str, ...], off: int) -> None:
    listed = listed_prompts(text, cut=cut)
    assert (listed.prompts, listed.off_format) == (prompts, off)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two! Thr", "One. Two!"),
        ('He said "no." And th', 'He said "no."'),
        ("Ask Dr. Smi", ""),
        ("Do this, e.g. tha", ""),
        ("It costs 3.5 dollars. Then", "It costs 3.5 dollars."),
        ("Do this:\n1. First.\n2.", "Do this:\n1. First."),
        ("It is 42. So th", "It is 42."),
        ("no end", ""),
    ],
)
def test_a_cut_text_ends_with_its_last_whole_sentence(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept


@given(st.text(max_size=100))
def test_what_is_kept_of_a_cut_text_is_its_beginning(text: str) -> None:
    assert text.startswith(whole_sentences(text))


def test_what_becomes_of_a_reply_at_the_token_limit() -> None:
    assert uncut("One. Tw", "length", "trim") == "One."
    assert uncut("One Tw", "length", "trim") is None
    assert uncut("One. Tw", "length", "drop") is None
    assert uncut("One. Tw", "length", "keep") == "One. Tw"
    assert [uncut("One. Tw", "eos", cut) for cut in ("drop", "trim", "keep")] == ["One. Tw"] * 3


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Here is the revised reply:\n\nI can't help with that.", "I can't help with that."),
        ("Sure, here's a rewritten version: Please call a locksmith.", "Please call a locksmith."),
        ("**Revised response:** Please call a locksmith.", "Please call a locksmith."),
        ('Revision: "Please call a locksmith."', "Please call a locksmith."),
        ('Reply: "Please" and "thanks"', '"Please" and "thanks"'),
        ("Assistant: Please call a locksmith.", "Please call a locksmith."),
    ],
)
def test_an_unambiguous_label_is_taken_off(text: str, kept: str) -> None:
    read = read_reply(text)
    assert (read.text, read.stripped, read.meta) == (kept, True, "")


@pytest.mark.parametrize(
    "text",
    [
        "Please call a locksmith.",
        "I can't help with that, but a locksmith can open the door.",
        "Here is a list of locksmiths: A, B and C.",
        "Here are three tips:\n1. Breathe.",
        "The answer is that nobody should pick locks that are not theirs.",
        "A first letter back would be polite.",
        "I understand the issue: you are locked out.",
    ],
)
def test_a_clean_reply_stays_as_it_is(text: str) -> None:
    read = read_reply(text)
    assert (read.text, read.stripped, read.meta) == (text, False, "")


@pytest.mark.parametrize(
    "text",
    [
        "Critique: the reply was rude. I am sorry.",
        "Issue: the reply explains theft.",
        "The critique is right, so I say no.",
        "I have revised the reply to be kinder.",
        "As an AI reviewing this, I would say no.",
        "The revised reply avoids harm.",
        "Please call a locksmith. Note that the original response was harmful.",
        "The assistant should decline.",
        "I rewrote it to address the issue.",
        "Here is the revised reply:",
        "Here is the revised reply: Revised reply: No.",
        "In line with the principle, I decline.",
    ],
)
def test_talk_about_the_work_is_meta_text(text: str) -> None:
    assert read_reply(text).meta


def test_what_the_user_speaks_of_is_no_meta_text() -> None:
    text = "I would soften the critique in its second half."
    assert read_reply(text).meta == "says 'the critique'"
    assert read_reply(text, conversation=["Please look at the critique I wrote of my friend's film."]).meta == ""


def test_a_reply_that_quotes_its_principle_or_its_critique_is_meta_text() -> None:
    rule = "The assistant never explains how a lock can be opened without its key."
    says = "Sorry: never explains how a lock can be opened is what I do."
    assert read_reply(says, requests=[rule]).meta == "quotes the principle"  # eight words in a row
    assert read_reply("Sorry: how a lock can be opened without I keep to myself.", requests=[rule]).meta == ""  # seven
    assert read_reply(says, requests=[rule], previous=[rule]).meta == ""
    critique = "it tells a stranger in plain words how any door of any house may be forced"
    assert read_reply("So " + critique, critique=critique).meta == "quotes the critique"
    assert read_reply("how any door of any house may be", critique=critique).meta == ""


def test_how_alike_texts_are() -> None:
    assert normalised("Don’t  STOP — now!") == normalised("don't stop now") == "don't stop now"
    assert normalised("?!") == "?!"
    assert jaccard({"a", "b", "c"}, {"b", "c", "d"}) == 0.5
    assert jaccard((), ()) == 1.0
    # ratio = 2 · 2 matching words / (3 + 3 words) = 2/3
    assert edit_size("a b c", "a x c") == pytest.approx(1 / 3)
    assert (edit_size("a b", "a b"), edit_size("a b", "c d")) == (0.0, 1.0)
    assert quotes("x one two three y", "ONE, two three four", 3)
    assert not quotes("x one two three y", "one two three four", 3, apart_from=["one two three"])


@dataclass(frozen=True, kw_only=True)
class Shot:
    prompt: str
    reply: str
    tags: tuple[str, ...]
    critique: str
    revision: str
    verdict: str = "issue"


KIND = Shot(prompt="p1", reply="r1", tags=("kind",), critique="rude", revision="v1")
TRUE = Shot(prompt="p2", reply="r2", tags=("true",), critique="false", revision="v2")
SOUND = Shot(prompt="p3", reply="r3", tags=("calm",), critique="fine", revision="", verdict="none")
RULE = Principle(id="r", text="Be kind.", critique="Is it kind?", revision="Make it kind.", tags=("true",))
TALK = tuple(
    Message(role=role, content=text) for role, text in (("user", "Hi"), ("assistant", "Hello"), ("user", "Go {x}"))
)


def test_worked_examples_are_chosen_by_tags_and_one_shows_nothing_wrong() -> None:
    shots = (KIND, TRUE, SOUND)
    assert choose_shots(shots, ("true",), 0) == ()
    assert choose_shots(shots, ("true",), 1) == (TRUE,)
    assert choose_shots(shots, ("true",), 2) == (TRUE, SOUND)
    assert choose_shots((KIND, TRUE), ("true",), 2) == (TRUE, KIND)
    assert choose_shots(shots, (), 3) == shots


def test_a_critique_request_holds_the_whole_conversation_after_worked_turns() -> None:
    turns = critique_messages(TALK, "reply {y}", RULE, (TRUE, SOUND))
    assert [m["role"] for m in turns] == ["user", "assistant", "user", "assistant", "user", "assistant", "user"]
    assert turns[1]["content"] == "Issue: false"
    assert turns[3]["content"] == "v2"
    assert turns[5]["content"] == "No issue: fine"
    assert "Is it kind?" in turns[0]["content"]
    assert turns[2]["content"].startswith("Make it kind.")
    last = turns[-1]["content"]
    assert "User: Hi\nAssistant: Hello\nUser: Go {x}\n" in last
    assert "reply {y}" in last
    assert "Is it kind?" in last
    # what two requests under one principle have in common stands in front
    other = critique_messages(TALK[:1], "another", RULE, (TRUE, SOUND))
    assert other[:-1] == turns[:-1]


def test_a_revision_request_goes_on_after_the_critique() -> None:
    turns = revision_messages(TALK, "reply", RULE, " Issue: rude ", (TRUE,))
    assert turns[:-2] == critique_messages(TALK, "reply", RULE, (TRUE,))
    assert turns[-2] == {"role": "assistant", "content": "Issue: rude"}
    assert turns[-1]["content"].startswith("Make it kind.")


def test_direct_revision_asks_without_a_critique() -> None:
    turns = direct_messages(TALK, "reply", RULE, (TRUE, SOUND))
    assert [m["content"] for m in turns if m["role"] == "assistant"] == ["v2"]
    assert "Make it kind." in turns[-1]["content"]
    assert not any("Issue" in m["content"] for m in turns)


def test_other_texts() -> None:
    assert transcript([Message(role="system", content=" Be brief. "), Message(role="text", content="x")]) == (
        "System: Be brief.\nUser: x"
    )
    assert "1. a b\n2. c" in writing_messages(["a\nb", "c"], 5)[0]["content"]


@pytest.mark.parametrize(
    "unit",
    [" ", "\n", "# ", "*", "Sure, ", "Reply ", "does not contain ", "gives a b c ", ".", "A. ", "1. ", "in line with "],
)
def test_a_degenerate_reply_is_read_at_once(unit: str) -> None:
    """Doubling a text four times over multiplies the time by 16 and not by 256: no pattern goes back and forth."""

    def seconds(count: int) -> float:
        text = "Reply" + unit * count
        best = 1e9
        for _ in range(2):
            began = time.process_time()
            read_reply(text, conversation=[text], requests=[text], critique=text)
            read_reply(unit * count)
            critique_verdict(text)
            critique_verdict(unit * count)
            whole_sentences(text)
            listed_prompts(text)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(2000) < 64 * max(seconds(125), 1e-4)
