"""The loss of a preference model, its labels, its micro-batches, and the numbers it is measured by."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.data import pair_set
from charter.errors import DataError, ModelError
from charter.learner.preference import PreferenceLearner, spread
from charter.model.attention import IMPLEMENTATION
from charter.model.heads import ScalarHead
from charter.model.scorer import (
    PreferenceModel,
    ScoreFacts,
    answer_tokens,
    classifier_of,
    closed_tree,
    closing_states,
    load_scorer,
    save_scorer,
)
from charter.objectives.rows import ScoreRows
from charter.recipe import DpoTable, OptimizerTable, PreferenceTable
from charter.train.preference import pair_batch, pair_tree
from charter.train.preference_model import (
    BradleyTerryObjective,
    label,
    preference_model,
    replies_by_prompt,
    scored_tree,
    statistics,
)
from charter.types import Message, Pair, Prompt, Tree

ASKED: tuple[Message, ...] = ({"role": "user", "content": "7 or 8?"},)


def pair(a: str, b: str, p: float = 1.0, asked: str = "7 or 8?") -> Pair:
    prompt = Prompt(id=asked, messages=({"role": "user", "content": asked},))
    return Pair(id=f"{asked}|{a}|{b}|{p}", prompt=prompt, a=a, b=b, p=p)


PAIRS = [
    pair("seven", "8", 0.9),
    pair("no", "I will not say which", 0.2),
    pair("seven", "no", 0.5),
    pair("yes", "nnnnnnnn", 1.0, asked="is it?"),
    pair("maybe", "q", 0.0, asked="and this, which is longer?"),
]


def make_learner(policy: Any, **changed: Any) -> PreferenceLearner:
    settings_: dict[str, Any] = {"total_steps": 10, "head_learning_rate": 1e-2, **changed}
    learner = PreferenceLearner(policy, ScalarHead(policy), OptimizerTable(learning_rate=1e-3), **settings_)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # a head of 0 would make every gradient of the backbone 0
        weight = learner.head.weight
        weight.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return learner


def batch_of(policy: Any, pairs: list[Pair], config: PreferenceTable | None = None) -> Any:
    trees = [scored_tree(one, policy.chat.encode_example, config or PreferenceTable()) for one in pairs]
    return pair_batch(trees, [[()] * 2 for _ in trees])


def alone(policy: Any, head: ScalarHead, one: Pair, text: str) -> torch.Tensor:
    """The score of one reply by transformers' own forward on a row of its own, read at its last token."""
    prefix, answer = answer_tokens(policy.chat.encode_example, one.prompt.messages, text)
    policy.module.set_attn_implementation("eager")
    try:
        hidden = policy.module.base_model(torch.tensor([[*prefix, *answer]]), use_cache=False).last_hidden_state
    finally:
        policy.module.set_attn_implementation(IMPLEMENTATION)
    return hidden[0, -1] @ head.weight[0]


# ---- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("soft", [0.0, 0.3, 0.5, 0.55, 1.0]),
        ("hard", [0.0, 0.0, 0.5, 1.0, 1.0]),
        ("clamped", [0.4, 0.4, 0.5, 0.55, 0.6]),
    ],
)
def test_labels_by_hand(labels, found):
    config = PreferenceTable(labels=labels)
    assert [label(p, config) for p in (0.0, 0.3, 0.5, 0.55, 1.0)] == pytest.approx(found)


@pytest.mark.parametrize("labels", ["soft", "hard", "clamped"])
def test_the_label_reaches_the_loss(tiny_policy, labels):
    """One pair: loss and gradient of the head from scores taken one by one, by the formula written out."""
    policy = tiny_policy("llama", dtype=torch.float64)
    learner = make_learner(policy)
    config = PreferenceTable(labels=labels)
    one = PAIRS[1]
    with torch.no_grad():
        a, b = (float(alone(policy, learner.head, one, text)) for text in (one.a, one.b))
    q = {"soft": 0.2, "hard": 0.0, "clamped": 0.4}[labels]
    expected = q * math.log1p(math.exp(b - a)) + (1 - q) * math.log1p(math.exp(a - b))
    found = learner.step(batch_of(policy, [one], config), BradleyTerryObjective())
    assert found["loss"] == pytest.approx(expected, rel=1e-5)  # eager attention rounds to float32
    assert found["preference/brier"] == pytest.approx((1 / (1 + math.exp(b - a)) - q) ** 2, rel=1e-5, abs=1e-9)
    assert found["preference/margin"] == pytest.approx((2 * q - 1) * (a - b), rel=1e-6)


def test_dpo_takes_the_soft_label_of_each_pair_too(tiny_policy):
    """A soft label is that share of the loss under either hard one, in DPO as in the preference model."""
    from charter.learner.local import LocalLearner
    from charter.train.preference import PairObjective

    def loss(p: float) -> float:
        policy, reference = tiny_policy("llama", dtype=torch.float64), tiny_policy("llama", seed=5, dtype=torch.float64)
        learner = LocalLearner(policy, OptimizerTable(learning_rate=1e-3), total_steps=1, reference=reference)
        tree = pair_tree(replace(PAIRS[0], p=p), policy.chat.encode_example, 200)
        batch = pair_batch([tree], learner.reference_logprobs([tree], 1.0))
        return learner.step(batch, PairObjective(config=DpoTable()))["loss"]

    assert loss(0.3) == pytest.approx(0.3 * loss(1.0) + 0.7 * loss(0.0), rel=1e-9)
    assert loss(1.0) != pytest.approx(loss(0.0), rel=1e-3)


# ---- the law: any cut, any order -----------------------------------------------------------------------------------


def loss_and_gradient(policy: Any, pairs: list[Pair], budget: int, **changed: Any) -> tuple[float, torch.Tensor]:
    learner = make_learner(policy, microbatch_tokens=budget, **changed)
    caught: list[torch.Tensor] = []
    apply = learner.updater.apply

    def catch(*given: Any) -> dict[str, float]:
        flat = [p.grad.flatten().clone() for p in learner.updater.named.values() if p.grad is not None]
        caught.append(torch.cat(flat))
        for parameter in learner.updater.named.values():
            parameter.grad = None if parameter.grad is None else torch.zeros_like(parameter.grad)
        return apply(*given)

    learner.updater.apply = catch  # type: ignore[method-assign]
    before = {n: p.detach().clone() for n, p in learner.updater.named.items()}
    loss = learner.step(batch_of(policy, pairs), BradleyTerryObjective())["loss"]
    with torch.no_grad():
        for n, p in learner.updater.named.items():
            p.copy_(before[n])
    return loss, caught[0]


@pytest.mark.parametrize("layers", [None, 1, 0])
def test_any_cut_and_order_gives_the_same_loss_and_gradient(tiny_policy, layers):
    policy = tiny_policy("llama", dtype=torch.float64)
    whole = loss_and_gradient(policy, PAIRS, 10_000, trainable_layers=layers)
    for budget in (1, 60, 120):
        cut = loss_and_gradient(policy, PAIRS, budget, trainable_layers=layers)
        assert cut[0] == pytest.approx(whole[0], rel=1e-10)
        assert torch.allclose(cut[1], whole[1], rtol=1e-8, atol=1e-12)
    turned = loss_and_gradient(policy, PAIRS[::-1], 10_000, trainable_layers=layers)
    assert torch.allclose(turned[1], whole[1], rtol=1e-8, atol=1e-12)
    swapped = [replace(one, a=one.b, b=one.a, p=1 - one.p) for one in PAIRS]
    assert torch.allclose(
        loss_and_gradient(policy, swapped, 10_000, trainable_layers=layers)[1], whole[1], rtol=1e-8, atol=1e-12
    )


def test_the_gradient_is_that_of_autograd_on_rows_of_their_own(tiny_policy):
    policy = tiny_policy("llama", dtype=torch.float64)
    found, gradient = loss_and_gradient(policy, PAIRS, 10_000)
    learner = make_learner(policy)
    total = torch.zeros((), dtype=torch.float64)
    for one in PAIRS:
        x = alone(policy, learner.head, one, one.a) - alone(policy, learner.head, one, one.b)
        total = total - one.p * torch.log(torch.sigmoid(x)) - (1 - one.p) * torch.log(torch.sigmoid(-x))
    (total / len(PAIRS)).backward()
    assert found == pytest.approx(float(total.detach()) / len(PAIRS), rel=1e-6)
    flat = [p.grad.flatten() for p in learner.updater.named.values() if p.grad is not None]
    assert torch.allclose(gradient, torch.cat(flat), rtol=1e-4, atol=1e-6)


def test_a_pair_that_was_cut_is_refused():
    rows = ScoreRows(
        scores=torch.zeros(2), preferred=torch.ones(2), groups=torch.tensor([0, 1]), normalizers={"prompt": 1}
    )
    with pytest.raises(ValueError, match="a pair was cut"):
        BradleyTerryObjective()(rows)


def test_frozen_states_give_what_the_forward_gives(tiny_policy):
    policy = tiny_policy("llama", dtype=torch.float64)
    learner = make_learner(policy, trainable_layers=0)
    trees = list(batch_of(policy, PAIRS).trees)
    wanted = replies_by_prompt(trees)
    assert [len(tree.branches) for tree in wanted] == [4, 2, 2]  # "seven" and "no" stand twice and are kept once
    states = learner.closing(wanted)
    known = {
        (tree.prefix, branch.tokens): row
        for tree, rows in zip(wanted, states, strict=True)
        for branch, row in zip(tree.branches, rows, strict=True)
    }
    direct = learner.scores(trees)
    learner.features = lambda asked: [[known[t.prefix, b.tokens] for b in t.branches] for t in asked]
    kept = learner.scores(trees)
    for one, other in zip(direct, kept, strict=True):
        assert one == pytest.approx(other, abs=1e-10)
    before = [p.detach().clone() for p in policy.module.parameters()]
    found = learner.step(batch_of(policy, PAIRS), BradleyTerryObjective())
    assert found["tokens/forwarded"] == 0
    assert all(torch.equal(p, q) for p, q in zip(before, policy.module.parameters(), strict=True))


@pytest.mark.parametrize(("family", "layers", "count"), [("llama", 1, 9), ("llama", 2, 18), ("gpt2", 1, 12)])
def test_the_last_layers_learn_and_nothing_else(tiny_policy, family, layers, count):
    policy = tiny_policy(family)
    learner = make_learner(policy, trainable_layers=layers)
    own = {"weight", "bias"} if family == "gpt2" else {"weight"}
    named = {n for n in learner.updater.named if n != "score.weight"}
    inside = {n for n in named if n.startswith(("layers.", "h."))}
    assert len(inside) == count
    assert all(int(n.split(".")[1]) >= 2 - layers for n in inside)
    assert {n.rpartition(".")[2] for n in named - inside} == own  # the norm behind them
    assert sum(p.requires_grad for p in policy.module.parameters()) == len(named)
    with pytest.raises(ModelError, match="trainable_layers = 3, and the backbone has 2 layers"):
        make_learner(tiny_policy(family), trainable_layers=3)


def test_a_step_that_is_not_finite_changes_nothing(tiny_policy):
    learner = make_learner(tiny_policy("llama"))
    with torch.no_grad():
        learner.head.weight.fill_(float("inf"))
    before = {n: p.detach().clone() for n, p in learner.updater.named.items()}
    found = learner.step(batch_of(learner.policy, PAIRS), BradleyTerryObjective())
    assert (found["skipped"], learner.version) == (1.0, 0)
    assert all(torch.equal(before[n], p) for n, p in learner.updater.named.items())


def test_the_trainer_yields_updates_that_lower_the_loss(tiny_policy):
    import asyncio

    policy = tiny_policy("llama")
    learner = PreferenceLearner(
        policy, ScalarHead(policy), OptimizerTable(learning_rate=3e-3), total_steps=12, head_learning_rate=1e-2
    )
    source = pair_set(PAIRS, 0, "pairs")

    async def take() -> list[Any]:
        found = []
        async for update in preference_model(
            source, policy.chat.encode_example, learner, PreferenceTable(pairs_per_step=4)
        ):
            found.append(update)
            if update.step == 12:
                break
        return found

    updates = asyncio.run(take())
    assert [update.step for update in updates] == list(range(1, 13))
    assert [update.version for update in updates] == list(range(1, 13))
    assert updates[0].metrics["loss"] == pytest.approx(math.log(2), abs=1e-6)  # a head of 0
    assert updates[-1].metrics["loss"] < 0.6
    assert updates[0].metrics["pairs"] == 4


# ---- measures ------------------------------------------------------------------------------------------------------


def test_statistics_by_hand():
    # σ(ln 3) = 3/4, σ(−ln 3) = 1/4
    found = statistics([math.log(3), -math.log(3), 0.0], [1.0, 1.0, 0.5])
    assert found["accuracy"] == pytest.approx(0.5)  # one of the two that are decided
    assert found["brier"] == pytest.approx(((1 / 4) ** 2 + (3 / 4) ** 2 + 0) / 3)
    assert found["loss"] == pytest.approx((math.log(4 / 3) + math.log(4) + math.log(2)) / 3)
    assert found["margin"] == pytest.approx(0.0)  # +ln 3, −ln 3, and 0 · 0
    assert found["ece"] == pytest.approx((1 / 4 + 3 / 4 + 0) / 3)  # each in a bin of its own
    with pytest.raises(ValueError, match="no pairs"):
        statistics([], [])


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9))
def test_spread_is_that_of_the_statistics_module(numbers):
    import statistics as known

    mean, std = spread(numbers)
    assert mean == pytest.approx(known.fmean(numbers), abs=1e-9)
    assert std == pytest.approx(known.stdev(numbers), abs=1e-7)
    assert spread([3.0]) == (3.0, 0.0)
    assert spread([]) == (0.0, 0.0)


# ---- pairs held out ------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.text("ab", max_size=3)), min_size=2, max_size=20), st.integers(0, 5))
def test_no_prompt_is_on_both_sides(rows, count):
    pairs = [pair(text, f"{i}", asked=str(prompt)) for i, (prompt, text) in enumerate(rows)]
    prompts = {one.prompt.messages[0]["content"] for one in pairs}
    if count >= len(prompts):
        with pytest.raises(DataError, match="leaves none to train on"):
            pair_set(pairs, 0, "pairs", held_out=count)
        return
    found = pair_set(pairs, 0, "pairs", held_out=count)
    kept = {one.prompt.messages[0]["content"] for one in found.held_out}
    learnt = {one.prompt.messages[0]["content"] for one in found.train.items}
    assert len(kept) == count
    assert kept | learnt == prompts
    assert not kept & learnt
    assert len(found.held_out) + len(found.train.items) == len(pairs)
    assert pair_set(pairs, 7, "pairs", held_out=count).held_out == found.held_out  # whatever the seed


def test_a_tenth_is_held_out_of_a_hundred_prompts():
    pairs = [pair("a", "b", asked=str(i)) for i in range(120)]
    assert len(pair_set(pairs, 0, "pairs", held_out=None).held_out) == 12
    assert pair_set(pairs[:99], 0, "pairs", held_out=None).held_out == ()
    assert pair_set(pairs, 0, "pairs").held_out == ()


# ---- the scorer ----------------------------------------------------------------------------------------------------


def scorer_of(policy: Any, **facts: Any) -> PreferenceModel:
    head = ScalarHead(policy)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(2)))
    known: dict[str, Any] = {"mean": 0.25, "std": 2.0, "replies": 9, "max_tokens": 120, **facts}
    return PreferenceModel(policy, head, ScoreFacts(**known))


def test_a_score_is_read_at_the_closing_token(family, tiny_policy):
    """Every family: the packed group gives what transformers' own forward gives on a row of its own."""
    policy = tiny_policy(family)
    scorer = scorer_of(policy)
    replies = ["seven", "", "I will not say", "seven"]
    found = scorer.score_replies(ASKED, replies)
    one = pair("", "")
    with torch.no_grad():
        expected = [float(alone(policy, scorer.head, one, text)) for text in replies]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert found[0] == found[3]
    scorer.most_tokens = 1  # each reply in a forward of its own
    assert scorer.score_replies(ASKED, replies) == pytest.approx(found, rel=1e-3, abs=1e-3)


def test_the_place_that_is_read_moves_with_the_closing_token(tiny_policy):
    policy = tiny_policy("llama")
    prefix, answer = answer_tokens(policy.chat.encode_example, ASKED, "seven")
    assert answer[-1] in policy.chat.eos_ids
    closed = closing_states(policy, [closed_tree(prefix, [answer])])
    open_ended = closing_states(policy, [closed_tree(prefix, [answer[:-1]])])
    assert (closed - open_ended).abs().max() > 0.05


def test_too_long_is_told_for_that_reply_alone(tiny_policy):
    scorer = scorer_of(tiny_policy("llama"), max_tokens=60)
    short, long = scorer.score_replies(ASKED, ["seven", "8" * 50])
    assert isinstance(short, float)
    assert "more than the 60 that the preference model was trained on" in str(long)
    with pytest.raises(ModelError, match="more than the 60"):
        scorer.score(ASKED, "8" * 50)
    assert scorer.score_replies(ASKED, []) == []


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma"])
def test_saved_loaded_and_classified_by_transformers(tiny_policy, tmp_path, kind):
    from transformers import AutoModelForSequenceClassification

    scorer = scorer_of(tiny_policy(kind))
    save_scorer(tmp_path, scorer.policy, scorer.head, scorer.facts)
    again = load_scorer(tmp_path, device="cpu")
    assert again.facts == scorer.facts
    replies = ["seven", "I will not say"]
    found = again.score_replies(ASKED, replies)
    assert found == scorer.score_replies(ASKED, replies)
    assert again.bytes == sum(4 * p.numel() for p in (*scorer.policy.module.parameters(), scorer.head.weight))
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert theirs.num_labels == 1
    for text, value in zip(replies, found, strict=True):
        prefix, answer = answer_tokens(again.policy.chat.encode_example, ASKED, text)
        with torch.no_grad():
            assert float(theirs(torch.tensor([[*prefix, *answer]])).logits) == pytest.approx(value, rel=1e-3, abs=1e-3)


def test_padding_that_closes_a_reply_is_replaced(tiny_policy, tmp_path):
    import json

    scorer = scorer_of(tiny_policy("llama"))
    scorer.policy.module.config.pad_token_id = 2  # the closing token, as small chat models have it
    save_scorer(tmp_path, scorer.policy, scorer.head, scorer.facts)
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] not in scorer.policy.chat.eos_ids


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("no facts", "has no readable preference_model.json"),
        ("bad facts", "does not say what it should"),
        ("no head", "has no 'score.weight'"),
        ("wide head", r"has the shape \[1, 5\]"),
        ("head not finite", "not finite"),
    ],
)
def test_a_folder_that_is_damaged_is_refused_by_name(tiny_policy, tmp_path, damage, said):
    from safetensors.torch import load_file, save_file

    scorer = scorer_of(tiny_policy("llama"))
    save_scorer(tmp_path, scorer.policy, scorer.head, scorer.facts)
    weights = load_file(tmp_path / "model.safetensors")
    if damage == "no facts":
        (tmp_path / "preference_model.json").unlink()
    elif damage == "bad facts":
        (tmp_path / "preference_model.json").write_text('{"format": 1, "mean": "x"}')
    else:
        head = weights.pop("score.weight")
        if damage == "wide head":
            weights["score.weight"] = torch.zeros(1, 5)
        elif damage == "head not finite":
            weights["score.weight"] = head * float("nan")
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=said) as caught:
        load_scorer(tmp_path, device="cpu")
    assert str(tmp_path) in str(caught.value)


def test_names_of_sequence_classifiers():
    assert classifier_of("LlamaForCausalLM") == "LlamaForSequenceClassification"
    assert classifier_of("GPT2LMHeadModel") == "GPT2ForSequenceClassification"
    assert classifier_of("LlamaForSequenceClassification") == "LlamaForSequenceClassification"


def test_steps_of_pairs_are_the_same_from_anywhere():
    source = pair_set(PAIRS, 4, "pairs")
    whole = list(islice(source.steps(2), 6))
    assert list(islice(source.steps(2, start=4), 3)) == whole[3:]


def test_a_tree_without_answers_is_no_reply():
    assert replies_by_prompt([Tree(prefix=(1,), branches=())]) == []
