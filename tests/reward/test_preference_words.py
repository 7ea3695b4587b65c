"""The bag of words: its features, its fit, its file."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.errors import DataError, MissingExtra, ModelError
from charter.reward.bag_of_words import BagOfWords, features, inverse_frequency, is_bag_of_words, terms
from charter.types import Message, Pair, Prompt

ASKED: tuple[Message, ...] = ({"role": "user", "content": "?"},)


def pair(a: str, b: str, p: float = 1.0) -> Pair:
    return Pair(id=f"{a}|{b}|{p}", prompt=Prompt(id="q", messages=ASKED), a=a, b=b, p=p)


def test_terms_are_words_and_pairs_of_neighbours():
    assert terms("I can’t. I CAN'T!") == {"i": 2, "can't": 2, "i can't": 2, "can't i": 1}
    assert terms("…") == {}


def test_features_by_hand():
    # idf of a term in 1 of 3 replies: ln(4/2) + 1; in all: ln(4/4) + 1 = 1
    assert inverse_frequency(1, 3) == pytest.approx(1 + math.log(2))
    assert inverse_frequency(3, 3) == 1
    # "x" twice of idf 1: 1 + ln 2; "y" once of idf 2: 2; "z" unknown. Length: sqrt((1 + ln 2)² + 4)
    first, length = 1 + math.log(2), math.hypot(1 + math.log(2), 2)
    found = features({"x": 2, "y": 1, "z": 5}, {"x": 1.0, "y": 2.0})
    assert found == pytest.approx({"x": first / length, "y": 2 / length})
    assert features({"z": 1}, {"x": 1.0}) == {}


def test_features_are_those_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["I can't help with that, sorry.", "Sure, here is how: mix that with that.", "sorry sorry sorry that"]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+(?:['’]\w+)?")
    theirs = vectorizer.fit_transform(texts).toarray()
    names = vectorizer.get_feature_names_out()
    idf = {name: inverse_frequency(sum(name in terms(text) for text in texts), len(texts)) for name in names}
    for row, text in zip(theirs, texts, strict=True):
        ours = features(terms(text), idf)
        assert [ours.get(name, 0.0) for name in names] == pytest.approx(list(row))


def test_weight_of_one_word_is_the_optimum_of_its_own_equation():
    # Replies "yes" and "no", each one term of value 1: x = (+1, −1) for (no, yes) in sorted order, p for "yes".
    # By symmetry w = (−v, v), margin m = 2v; stationary: n·(p − σ(2v))·2 − 2v/C = 0 with n = 3 pairs.
    pairs = [pair("yes", "no", 0.8)] * 3
    model = BagOfWords.fit(pairs, c=2.0, min_replies=1)
    assert model.vocabulary == ("no", "yes")
    v = model.weights[1]
    assert model.weights[0] == pytest.approx(-v)
    assert 3 * (0.8 - 1 / (1 + math.exp(-2 * v))) == pytest.approx(v / 2.0, abs=1e-4)
    assert model.prefers("yes", "no") == pytest.approx(1 / (1 + math.exp(-2 * v)))
    assert model.mean == pytest.approx(0)
    assert model.std == pytest.approx(v)


def test_a_soft_label_is_that_share_of_both_hard_ones():
    words = ["sure do it", "no never do", "sorry no", "sure sure", "maybe do no"]
    some = [(words[i], words[j]) for i in range(5) for j in range(i)]
    soft = BagOfWords.fit([pair(a, b, 0.75) for a, b in some], c=4.0, min_replies=1)
    hard = BagOfWords.fit(
        [pair(*((a, b) if k < 3 else (b, a))) for a, b in some for k in range(4)], c=1.0, min_replies=1
    )
    assert soft.weights == pytest.approx(hard.weights, abs=1e-4)
    assert max(map(abs, soft.weights)) > 0.1


def test_swapping_a_pair_and_its_label_changes_nothing():
    some = [("sure do it", "sorry no", 0.2), ("no never", "sure yes", 0.9), ("sorry it", "do it", 0.6)]
    one = BagOfWords.fit([pair(a, b, p) for a, b, p in some], min_replies=1)
    other = BagOfWords.fit([pair(b, a, 1 - p) for a, b, p in some], min_replies=1)
    assert one.weights == pytest.approx(other.weights, abs=1e-5)


def test_what_it_learnt_it_applies_to_replies_it_has_not_seen():
    names = ["anna", "ben", "carla", "dan", "eve", "finn"]
    pairs = [pair(f"sorry, i cannot help {n}", f"sure {n}, take a hammer") for n in names]
    model = BagOfWords.fit(pairs)
    assert model.prefers("sorry, i cannot say", "sure, take a knife") > 0.9
    assert model.score(ASKED, "nothing known") == 0
    assert model.score(ASKED, "sorry") == model.score_reply("sorry") > 0


def test_saved_and_loaded_it_scores_the_same(tmp_path):
    model = BagOfWords.fit([pair("sorry, no", "sure, do it", 0.9), pair("no", "do it", 0.7)], min_replies=1)
    for place in (tmp_path / "words.json", tmp_path / "folder"):
        file = model.save(place)
        assert file.is_file()
        assert is_bag_of_words(place)
        again = BagOfWords.load(place)
        assert again == model
        assert again.score_reply("sorry, do no it") == model.score_reply("sorry, do no it")
    assert not is_bag_of_words(tmp_path)
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "other"}, "kind and format are 'other'"),
        ({"format": 2}, "and 2"),
        ({"weights": [1.0]}, "2 terms with 2 frequencies and 1 weights"),
        ({"idf": [1.0, float("nan")]}, "not finite"),
        ({"mean": "x"}, "could not convert"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, change, said):
    file = BagOfWords.fit([pair("yes", "no")], min_replies=1).save(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match=said) as caught:
        BagOfWords.load(tmp_path)
    assert str(file) in str(caught.value)


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match=r"bag_of_words\.json cannot be read: No such file"):
        BagOfWords.load(tmp_path)
    (tmp_path / "torn.json").write_text('{"kind": "bag-of-')
    with pytest.raises(ModelError, match="holds no bag of words"):
        BagOfWords.load(tmp_path / "torn.json")


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(DataError, match="0 pairs, none of which prefers"):
        BagOfWords.fit([])
    with pytest.raises(DataError, match="1 pairs, none of which prefers"):
        BagOfWords.fit([pair("yes", "no", 0.5)])
    with pytest.raises(DataError, match="no word stands in 2 of the 2 replies"):
        BagOfWords.fit([pair("yes", "no")])


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtra, match=r"charter\[cai\]"):
        BagOfWords.fit([pair("yes", "no")])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("ab cd'", max_size=12), st.text("ab cd'", max_size=12), st.floats(0, 1)),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_any_labels_give_finite_scores_and_complementary_probabilities(rows):
    pairs = [pair(a, b, p) for a, b, p in rows]
    try:
        model = BagOfWords.fit(pairs, min_replies=1)
    except DataError:
        assert all(p == 0.5 for _, _, p in rows) or not any(terms(a) or terms(b) for a, b, _ in rows)
        return
    for a, b, _ in rows:
        assert np.isfinite(model.score_reply(a))
        assert model.prefers(a, b) + model.prefers(b, a) == pytest.approx(1)
