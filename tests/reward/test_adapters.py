"""Signatures people already have: recognised by rule, filled from the right columns, read as their library reads them.

Functions written by hand with each signature run everywhere; the real packages where they are installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.errors import UsageError
from charter.reward import as_group, load_reward
from charter.reward.adapters import open_reward
from charter.reward.adapters.inspect_scorer import read_score as inspect_score
from charter.reward.adapters.inspect_scorer import read_value
from charter.reward.adapters.openrlhf import read_rewards
from charter.reward.adapters.recognise import SIGNATURES, recognise
from charter.reward.adapters.verl import read_score
from charter.reward.call import SourceError
from charter.types import Prompt, Score

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
TEXT = [{"role": "text", "content": "2+2="}]


def score(found: Any, texts: list[str], columns: Mapping[str, Any] | None = None, **given: Any) -> list[dict[str, Any]]:
    """What the worker would answer for these completions."""
    signature, chat = given.pop("signature", None), given.pop("chat", False)
    handler, _ = open_reward(found, signature, given)
    work = {
        "messages": CHAT if chat else TEXT, "texts": texts, "tokens": [[1]] * len(texts), "columns": columns or {},
        "options": given,
    }  # fmt: skip
    return handler(work)


def values(replies: list[dict[str, Any]]) -> list[Any]:
    return [reply.get("value", "failed") for reply in replies]


def through_worker(source: str, texts: list[str], fields: Mapping[str, Any], **options: Any) -> list[Score]:
    async def run() -> list[Score]:
        reward = load_reward(source, timeout_s=20.0, **options)
        try:
            prompt = Prompt(id="p", messages=({"role": "text", "content": "2+2="},), fields=fields)
            return list(await reward.score(as_group(prompt, texts)))
        finally:
            await reward.close()

    return asyncio.run(run())


# which signature


@pytest.mark.parametrize(
    ("names", "takes_all", "signature"),
    [
        (["completions"], False, "trl"),
        (["completions", "answers"], False, "trl"),  # a column may be called as verifiers calls its lists
        (["prompts", "completion_ids"], True, "trl"),
        (["prompts"], False, "trl"),
        ([], True, "trl"),
        (["data_source", "solution_str", "ground_truth", "extra_info"], False, "verl"),
        (["solution_str", "ground_truth"], False, "verl"),
        (["data_sources", "solution_strs", "ground_truths", "extra_infos"], False, "verl"),
        (["queries", "prompts", "labels"], False, "openrlhf"),
        (["completion", "answer"], True, "verifiers"),
        (["state"], False, "verifiers"),
        (["states"], False, "verifiers"),
        (["state", "target"], False, "inspect"),
        (["text"], False, "plain"),
        (["text", "answer"], True, "plain"),
        (["completions", "text"], False, "trl"),  # `text` is a column where something else marks the signature
    ],
)
def test_the_parameters_names_tell_the_signature(names: list[str], takes_all: bool, signature: str) -> None:
    found, why = recognise(names, takes_all)
    assert found == signature
    assert why.startswith("it ")


@pytest.mark.parametrize(
    ("names", "both"),
    [
        (["completions", "queries"], ("trl", "openrlhf")),
        (["completions", "completion"], ("trl", "verifiers")),
        (["completions", "states"], ("trl", "verifiers")),
        (["solution_str", "completion"], ("verl", "verifiers")),
        (["state", "target", "completion"], ("verifiers", "inspect")),
    ],
)
def test_two_signatures_are_an_error_that_names_both(names: list[str], both: tuple[str, str]) -> None:
    with pytest.raises(SourceError) as error:
        recognise(names, False)
    for name in both:
        assert f'signature = "{name}"' in str(error.value)


def test_no_mark_is_an_error_that_lists_the_signatures() -> None:
    with pytest.raises(SourceError, match=r"its parameters \(answer\) tell no signature") as error:
        recognise(["answer"], False)
    assert all(name in str(error.value) for name in SIGNATURES)


def test_the_recipe_may_say_it(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(
        "def both(completions, queries=None):\n    return [float(len(c)) for c in completions]\n"
        "def odd(reply, answer):\n    return float(reply == answer)\n"
    )
    with pytest.raises(UsageError, match=r'signature = "trl" or signature = "openrlhf"'):
        load_reward(f"{source}:both")
    assert [s.value for s in through_worker(f"{source}:both", ["ab"], {}, signature="trl")] == [2.0]
    with pytest.raises(UsageError, match="tell no signature"):
        load_reward(f"{source}:odd")
    scores = through_worker(f"{source}:odd", ["4", "5"], {"answer": "4"}, signature="plain")
    assert [s.value for s in scores] == [1.0, 0.0]
    with pytest.raises(UsageError, match=r"signature = 'tlr' is none of trl, verl"):
        load_reward(f"{source}:both", signature="tlr")
    with pytest.raises(UsageError, match=r"columns is 'answer'; expected a table"):
        load_reward(f"{source}:odd", signature="plain", columns="answer")


def test_columns_fill_parameters_of_other_names(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(
        "def right(completions, solution):\n    return [float(c == s) for c, s in zip(completions, solution)]\n"
    )
    fields = {"meta": {"gold": "4"}, "sol": "5"}
    assert [s.value for s in through_worker(f"{source}:right", ["4"], fields, columns={"solution": "sol"})] == [0.0]
    assert [s.value for s in through_worker(f"{source}:right", ["4"], fields, columns={"solution": "meta.gold"})] == [
        1.0
    ]
    (missing,) = through_worker(f"{source}:right", ["4"], fields, columns={"solution": "gold"})
    assert missing.status == "failed"
    assert "row p has no column 'gold' for the parameter 'solution'" in missing.note
    with pytest.raises(UsageError, match=r"columns\.solutoin.*no parameter 'solutoin'.*Did you mean 'solution'"):
        load_reward(f"{source}:right", columns={"solutoin": "sol"})


# trl


def test_trl_logs_go_into_the_notes() -> None:
    def named(completions: list[str], log_extra: Any, log_metric: Any) -> list[float]:
        log_extra("length", [len(c) for c in completions])
        log_metric("longest", 2)
        return [1.0] * len(completions)

    def by_kwargs(completions: list[str], **kwargs: Any) -> list[float]:
        kwargs["log_extra"]("seen", completions)
        return [0.5] * len(completions)

    def plain(completions: list[str], **kwargs: Any) -> list[float]:
        return [float(len(kwargs))] * len(completions)  # prompts and completion_ids, no loggers

    assert score(named, ["a", "bc"]) == [
        {"value": 1.0, "note": "length=1, longest=2"},
        {"value": 1.0, "note": "length=2, longest=2"},
    ]
    assert score(by_kwargs, ["a"]) == [{"value": 0.5, "note": "seen='a'"}]
    assert values(score(plain, ["a"])) == [2.0]
    assert open_reward(named, None, {})[1]["needs"] == []


def test_trl_functions_that_need_the_trainer_are_refused() -> None:
    def needs(completions: list[str], trainer_state: Any) -> list[float]:
        return [float(trainer_state.global_step)]

    with pytest.raises(UsageError, match="needs TRL's 'trainer_state', which only TRL's trainer has"):
        load_reward(needs)


def test_trl_abstains_with_none_and_takes_conversations() -> None:
    async def last(completions: list[Any], answer: list[Any]) -> list[float | None]:
        return [None if a is None else float(c[0]["content"] == a) for c, a in zip(completions, answer, strict=True)]

    assert values(score(last, ["4", "5"], {"answer": "4"}, chat=True)) == [1.0, 0.0]
    assert values(score(last, ["4"], {"answer": None}, chat=True)) == [None]


# verl


def test_verl_reads_its_own_parquet_layout() -> None:
    seen: list[Any] = []

    def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> Any:
        seen.append((data_source, ground_truth, dict(extra_info)))
        extra_info["index"] = 99  # each call has its own copy
        return {"score": float(solution_str == ground_truth), "acc": solution_str == ground_truth}

    columns = {
        "data_source": "openai/gsm8k",
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "4"},
        "extra_info": {"index": 7, "split": "train"},
    }
    replies = score(compute_score, ["4", "5"], columns)
    assert values(replies) == [1.0, 0.0]
    assert replies[0]["note"] == "acc=True"
    extra = {"index": 7, "split": "train", "num_turns": None, "rollout_reward_scores": {}}
    assert seen == [("openai/gsm8k", "4", extra)] * 2


@pytest.mark.parametrize(
    ("returned", "reply"),
    [
        (1, {"value": 1.0, "note": ""}),
        (True, {"value": 1.0, "note": ""}),
        ((0.5, "why"), {"value": 0.5, "note": ""}),
        ({"score": 0.25, "acc": 1}, {"value": 0.25, "note": "acc=1"}),
        ({"acc": 1}, {"failed": "returned a table with 'acc' and no 'score'"}),
        (None, {"value": None, "note": "the function returned None"}),
        ("1.0", {"failed": "returned '1.0', a str; expected a number or None"}),
        (float("nan"), {"failed": "returned nan; expected a finite number or None"}),
        ({"score": float("inf")}, {"failed": "returned inf; expected a finite number or None"}),
    ],
)
def test_what_verl_functions_return(returned: Any, reply: dict[str, Any]) -> None:
    assert read_score(returned) == reply


def test_verl_one_completion_fails_alone_and_options_are_keywords() -> None:
    def compute_score(solution_str: str, ground_truth: str, scale: float = 1.0) -> float:
        return scale * (1 / len(solution_str))

    assert values(score(compute_score, ["ab", "", "a"], {"ground_truth": "x"}, scale=4.0)) == [2.0, "failed", 4.0]

    def wants_source(data_source: str, solution_str: str, ground_truth: str) -> float:
        return float(data_source == "gsm8k")

    assert values(score(wants_source, ["a"], {"ground_truth": "x"}, data_source="gsm8k")) == [1.0]
    assert [n["parameter"] for n in open_reward(wants_source, None, {})[1]["needs"]] == ["data_source", "ground_truth"]
    assert open_reward(wants_source, None, {})[1]["needs"][1]["columns"] == [
        "ground_truth",
        "reward_model.ground_truth",
    ]


def test_verl_batches() -> None:
    def batch(data_sources: Any, solution_strs: Any, ground_truths: Any, extra_infos: Any) -> list[Any]:
        return [{"score": float(s == g)} for s, g in zip(solution_strs, ground_truths, strict=True)]

    columns = {"data_source": "d", "reward_model": {"ground_truth": "4"}, "extra_info": None}
    assert values(score(batch, ["4", "5", "4"], columns)) == [1.0, 0.0, 1.0]

    def short(solution_strs: list[str]) -> list[float]:
        return [1.0]

    assert score(short, ["a", "b"])[0] == {"failed": "returned 1 values for 2 completions; expected one each"}


def test_verl_columns_are_checked_before_a_run(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text("def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n    return 1.0\n")
    reward: Any = load_reward(f"{source}:compute_score")
    try:
        assert (reward.signature, reward.reason) == ("verl", "it has the parameter 'solution_str'")
        assert reward.check_columns(["data_source", "reward_model"], "a.parquet") == []
        source_missing, truth_missing = reward.check_columns(["answer"], "a.parquet")
        assert "its parameter 'data_source' is no column of a.parquet" in str(source_missing)
        assert "'ground_truth', filled from 'ground_truth' or 'reward_model.ground_truth', is no column" in str(
            truth_missing
        )
    finally:
        reward.shut_down()


# openrlhf


class Tensor:
    """As much of a tensor as a reward looks at."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def tolist(self) -> Any:
        return self.data


@pytest.mark.parametrize(
    ("returned", "value", "note"),
    [
        (Tensor([0.5]), 0.5, ""),
        (Tensor(0.5), 0.5, ""),
        (Tensor([[0.5]]), 0.5, ""),
        ([0.25], 0.25, ""),
        (0.75, 0.75, ""),
        ({"rewards": Tensor([2.0]), "scores": Tensor([1.0]), "extra_logs": {"acc": Tensor([1.0])}}, 2.0, "acc=1.0"),
    ],
)
def test_what_openrlhf_functions_return(returned: Any, value: float, note: str) -> None:
    assert read_rewards(returned) == {"value": value, "note": note}


def test_openrlhf_wrong_returns_fail() -> None:
    assert read_rewards({"scores": [1.0]}) == {"failed": "returned a table with 'scores' and no 'rewards'"}
    assert read_rewards([1.0, 2.0]) == {"failed": "returned 2 values for 1 completion"}
    assert read_rewards([float("nan")])["failed"].startswith("returned nan")


def test_openrlhf_is_called_by_position_with_lists_of_one() -> None:
    seen: list[Any] = []

    def reward_func(queries: list[str], prompts: list[str], labels: list[str], **kwargs: Any) -> Any:
        seen.append((queries, prompts, labels))
        return {"rewards": [float(queries[0].endswith(labels[0]))]}

    assert values(score(reward_func, ["4", "5"], {"label": "4"})) == [1.0, 0.0]
    assert seen == [(["2+2=4"], ["2+2="], ["4"]), (["2+2=5"], ["2+2="], ["4"])]
    seen.clear()
    assert values(score(reward_func, ["4"], {"labels": "4"}, chat=True)) == [1.0]
    asked = "system: Be brief.\nuser: 2+2?"
    assert seen == [([f"{asked}\nassistant: 4"], [asked], ["4"])]

    def other_names(q: list[str], p: list[str], gold: list[str]) -> list[float]:
        return [float(q[0] == p[0] + gold[0])]

    assert values(score(other_names, ["4", "5"], {"label": "4"}, signature="openrlhf")) == [1.0, 0.0]
    needs = open_reward(reward_func, None, {})[1]["needs"]
    assert needs == [{"parameter": "labels", "columns": ["labels", "label"]}]


# verifiers


class Rubric:
    """A rubric by hand, with verifiers' names."""

    def __init__(self, funcs: list[Any], weights: list[float], parser: Any = None) -> None:
        self.funcs, self.weights, self.parser, self.class_objects = funcs, weights, parser, {"bonus": 0.25}

    async def score_rollout(self, state: dict[str, Any]) -> None: ...
    async def score_group(self, states: list[dict[str, Any]]) -> None: ...


def test_a_rubric_weighs_its_functions() -> None:
    def exact(completion: list[dict[str, str]], answer: str) -> float:
        return float(completion[-1]["content"] == answer)

    async def short(completion: Any, state: dict[str, Any], bonus: float, level: int, **kwargs: Any) -> float:
        state["seen"] = True  # a later function may read what an earlier one left
        return bonus * level

    def seen(state: dict[str, Any]) -> float:
        return float(state["seen"])

    rubric = Rubric([exact, short, seen], [1.0, 0.5, 0.0])
    replies = score(rubric, ["4", "5"], {"answer": "4", "level": 2}, chat=True)
    # 1·1 + 0.5·(0.25·2) = 1.25, and 1·0 + 0.25; the metric of weight 0 counts for nothing
    assert values(replies) == [1.25, 0.25]
    assert replies[0]["note"] == "exact=1, short=0.5, seen=1"


def test_an_exception_in_a_rubric_is_a_failure_and_not_a_zero() -> None:
    def breaks(completion: str) -> float:
        raise KeyError(completion)

    def fine(completion: str) -> float:
        return 2.0

    def silent(completion: str) -> None:
        return None

    (reply,) = score(Rubric([fine, breaks], [1.0, 1.0]), ["a"])
    assert reply["failed"].startswith("breaks: KeyError: 'a' (test_adapters.py, line ")
    (reply,) = score(Rubric([fine, breaks], [1.0, 0.0]), ["a"])  # as a metric it costs only its own number
    assert reply["value"] == 2.0
    assert "breaks failed: KeyError" in reply["note"]
    assert values(score(Rubric([fine, silent], [1.0, 1.0]), ["a"])) == [2.0]
    assert values(score(Rubric([silent], [1.0]), ["a"])) == [None]


def test_group_functions_see_every_completion() -> None:
    def distinct(completions: list[str], answers: list[str]) -> list[float]:
        return [float(completions.count(c) == 1) for c in completions]

    rubric = Rubric([distinct], [2.0])
    assert values(score(rubric, ["a", "b", "a"], {"answer": "a"})) == [0.0, 2.0, 0.0]
    assert open_reward(rubric, None, {})[1]["row_independent"] is False


def test_a_single_verifiers_function_and_a_maker() -> None:
    def exact(completion: str, answer: str, parser: Any) -> float:
        return float(parser.parse_answer(completion) == answer)

    assert values(score(exact, ["4", "5"], {"answer": "4"})) == [1.0, 0.0]
    assert open_reward(exact, None, {})[1]["needs"] == [{"parameter": "answer", "columns": ["answer"]}]

    def made(completion: str) -> float:
        return 1.0

    def maker(weight: float = 3.0) -> Rubric:
        return Rubric([made], [weight])

    assert values(score(maker, ["x"], signature="verifiers")) == [3.0]
    assert values(score(maker, ["x"], signature="verifiers", weight=0.5)) == [0.5]
    with pytest.raises(SourceError, match="tell no signature"):
        open_reward(maker, None, {})
    with pytest.raises(SourceError, match=r'is a rubric, and the recipe says signature = "trl"'):
        open_reward(Rubric([exact], [1.0]), "trl", {})


def test_a_rubric_that_scores_in_its_own_way_is_refused() -> None:
    class Own(Rubric):
        async def score_rollout(self, state: dict[str, Any]) -> None:
            state["reward"] = 7.0

    with pytest.raises(SourceError, match=r"Own replaces Rubric\.score_rollout"):
        open_reward(Own([lambda completion: 1.0], [1.0]), None, {})


# inspect


@pytest.mark.parametrize(
    ("value", "number"),
    [("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), ("yes", 1.0), ("False", 0.0), ("0.5", 0.5), (2, 2.0), (True, 1.0)],
)
def test_what_inspect_values_count(value: Any, number: float) -> None:
    assert read_value(value) == number


def test_inspect_values_that_count_nothing() -> None:
    assert read_value(float("nan")) is None  # Score.unscored()
    for odd in ("maybe", "nan", [1.0]):
        with pytest.raises(ValueError, match="the score's value is"):
            read_value(odd)


class Verdict:
    def __init__(self, value: Any, explanation: str | None = None) -> None:
        self.value, self.explanation = value, explanation


@pytest.mark.skipif(
    importlib.util.find_spec("inspect_ai") is not None, reason="the stand-in is for machines without it"
)
def test_a_scorer_without_inspect_installed() -> None:
    async def same(state: Any, target: Any) -> Verdict:
        right = state.output.completion == target.text
        return Verdict("C" if right else "I", f"asked {state.input_text}, level {state.metadata['level']}")

    replies = score(same, ["4", "5"], {"target": "4", "level": 2}, chat=True)
    assert replies == [{"value": v, "note": "asked 2+2?, level 2"} for v in (1.0, 0.0)]


def test_scores_with_several_values() -> None:
    async def two(state: Any, target: Any) -> Verdict:
        return Verdict({"form": 1, "content": "P", "extra": None})

    async def one(state: Any, target: Any) -> Verdict:
        return Verdict({"only": 0.25})

    async def none(state: Any, target: Any) -> None:
        return None

    (reply,) = score(two, ["x"], {"target": "t"})
    assert "a table with 'form', 'content', 'extra': say which counts with value = …" in reply["failed"]
    assert values(score(two, ["x"], {"target": "t"}, value="content")) == [0.5]
    assert values(score(two, ["x"], {"target": "t"}, value="extra")) == [None]
    assert "it has no 'other'" in score(two, ["x"], {"target": "t"}, value="other")[0]["failed"]
    assert values(score(one, ["x"], {"target": "t"})) == [0.25]
    assert values(score(none, ["x"], {"target": "t"})) == [None]


def test_scorers_are_called_by_position_whatever_their_parameters_are_called() -> None:
    async def mine(s: Any, t: Any) -> Verdict:
        return Verdict(float(s.output.completion == t.text))

    assert values(score(mine, ["4", "5"], {"target": "4"}, signature="inspect")) == [1.0, 0.0]


# what comes back is never more than a number or a failure

RETURNED = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["score", "rewards", "a"]), inner),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(RETURNED)
def test_any_return_value_is_a_finite_number_none_or_a_failure(returned: Any) -> None:
    for reply in (read_score(returned), read_rewards(returned), inspect_score(returned, None)):
        if "failed" in reply:
            assert reply["failed"]
        else:
            assert reply["value"] is None or math.isfinite(reply["value"])
            assert isinstance(reply["note"], str)


def test_explain_and_reward_test_say_the_signature(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from charter.cli.explain_rewards import reward_facts
    from charter.cli.reward import app
    from charter.recipe import load_recipe

    (tmp_path / "mine.py").write_text("def f(queries, prompts, labels):\n    return [1.0]\n")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "q", "completion": "a", "label": "x"}\n')
    (tmp_path / "r.toml").write_text(
        'method = "grpo"\nmodel = "m"\n[data]\nprompts = "rows.jsonl"\n'
        '[[rewards]]\nname = "mine.py:f"\n[[rewards]]\nname = "mine.py:g"\n[[rewards]]\nname = "math"\n'
    )
    known, unknown, built_in = [reward_facts(reward) for reward in load_recipe(tmp_path / "r.toml").rewards]
    assert known["called_as"] == "openrlhf, since it has the parameter 'queries'"
    assert "cannot be loaded" in unknown["called_as"]
    assert "has no 'g'" in unknown["called_as"]
    assert "called_as" not in built_in
    words = ["test", f"{tmp_path}/mine.py:f", "--data", f"{tmp_path}/rows.jsonl"]
    result = CliRunner().invoke(app, words)
    assert "signature openrlhf, since it has the parameter 'queries'" in result.stderr


# the real packages


def test_real_verifiers(tmp_path: Path) -> None:
    vf = pytest.importorskip("verifiers")
    if not hasattr(vf, "Rubric"):
        pytest.skip("this release of verifiers has no rubrics")
    source = tmp_path / "mine.py"
    source.write_text(
        "import verifiers as vf\n"
        "parser = vf.XMLParser(['think', 'answer'], answer_field='answer')\n"
        "def exact(completion, answer, parser):\n"
        "    return 1.0 if parser.parse_answer(completion) == answer else 0.0\n"
        "async def long(completion, **kwargs):\n    return len(str(completion)) > 10\n"
        "def breaks(completion):\n    raise ValueError('no')\n"
        "rubric = vf.Rubric(funcs=[exact, long], weights=[1.0, 0.5], parser=parser)\n"
        "group = vf.RubricGroup(rubrics=[rubric, vf.Rubric(funcs=[long], weights=[2.0])])\n"
        "bad = vf.Rubric(funcs=[exact, breaks], parser=parser)\n"
    )
    texts = ["<think>t</think><answer>4</answer>", "4"]
    assert [s.value for s in through_worker(f"{source}:rubric", texts, {"answer": "4"})] == [1.5, 0.0]
    assert [s.value for s in through_worker(f"{source}:group", texts, {"answer": "4"})] == [3.5, 0.0]
    bad = through_worker(f"{source}:bad", texts, {"answer": "4"})
    assert [s.status for s in bad] == ["failed", "failed"]
    assert bad[0].note.startswith("breaks: ValueError: no")
    # and the package's own sum, where nothing breaks
    spec = importlib.util.spec_from_file_location("theirs", source)
    theirs: Any = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(theirs)  # type: ignore[union-attr]
    states = [{"prompt": "2+2=", "completion": t, "answer": "4", "trajectory": [], "timing": {}} for t in texts]
    asyncio.run(theirs.rubric.score_group(states))
    assert [s["reward"] for s in states] == [1.5, 0.0]


def test_real_inspect(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    source = tmp_path / "mine.py"
    source.write_text(
        "from inspect_ai.scorer import Score, accuracy, includes, match, scorer\n"
        "@scorer(metrics=[accuracy()])\n"
        "def graded(scale: float = 1.0):\n"
        "    async def score(state, target):\n"
        "        right = state.output.completion == target.text\n"
        "        return Score(value=scale * right, explanation=state.metadata['hint'] + state.input_text)\n"
        "    return score\n"
        "@scorer(metrics=[accuracy()])\n"
        "def unscored():\n"
        "    async def score(state, target):\n        return Score.unscored(reason='refusal')\n"
        "    return score\n"
    )
    fields = {"target": "4", "hint": "h:"}
    assert [s.value for s in through_worker(f"{source}:match", ["it is 4", "5"], fields)] == [1.0, 0.0]
    begins = through_worker(f"{source}:match", ["4 it is", "is 4"], fields, location="begin")
    assert [s.value for s in begins] == [1.0, 0.0]
    assert [s.value for s in through_worker("inspect_ai.scorer:includes", ["x4x", "5"], fields)] == [1.0, 0.0]
    scores = through_worker(f"{source}:graded", ["4", "5"], fields, scale=2.0)
    assert [(s.value, s.note) for s in scores] == [(2.0, "h:2+2="), (0.0, "h:2+2=")]
    (unscored,) = through_worker(f"{source}:unscored", ["4"], fields)
    assert (unscored.value, unscored.status, unscored.note) == (None, "abstained", "refusal")
    with pytest.raises(UsageError, match="has no parameter 'scal'"):
        load_reward(f"{source}:graded", scal=2.0)


def test_real_verl() -> None:
    pytest.importorskip("verl.utils.reward_score.gsm8k")
    fields = {"reward_model": {"ground_truth": "72"}, "data_source": "openai/gsm8k"}
    scores = through_worker("verl.utils.reward_score.gsm8k:compute_score", ["#### 72", "#### 7"], fields)
    assert [s.value for s in scores] == [1.0, 0.0]


def test_real_trl() -> None:
    pytest.importorskip("trl.rewards")

    async def run() -> list[float | None]:
        reward = load_reward("trl.rewards:think_format_reward", timeout_s=60.0)
        try:
            prompt = Prompt(id="p", messages=({"role": "user", "content": "2+2?"},))
            texts = ["<think>\nsum\n</think>\n4", "4"]
            return [s.value for s in await reward.score(as_group(prompt, texts))]
        finally:
            await reward.close()

    assert asyncio.run(run()) == [1.0, 0.0]
