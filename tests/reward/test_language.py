"""`language`: which language a text is in, by scripts and function words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.errors import UsageError
from charter.reward import load_reward
from charter.reward.language import language_share, prose, script_of, stretches
from charter.reward.language_words import FUNCTION_WORDS, LANGUAGES
from charter.types import Score

Scores = Callable[..., list[Score]]

TEXTS = {
    "en": "The train was late because there had been snow on the tracks. We waited for an hour and took the bus.",
    "de": "Der Zug hatte Verspätung, weil Schnee auf den Gleisen lag. Wir warteten eine Stunde und nahmen den Bus.",
    "fr": "Le train était en retard parce qu'il y avait de la neige. Nous avons attendu une heure et pris le bus.",
    "es": "El tren llegó tarde porque había nieve en las vías. Esperamos una hora y luego tomamos el autobús.",
    "it": "Il treno era in ritardo perché c'era la neve sui binari. Abbiamo preso l'autobus che va alla stazione.",
    "pt": "O trem atrasou porque havia neve nos trilhos. Depois pegamos o ônibus que vai para o centro, e não é longe.",
    "nl": "De trein had vertraging omdat er sneeuw op het spoor lag. We wachtten een uur en namen toen de bus.",
    "sv": "Tåget var sent eftersom det låg snö på spåret. Vi väntade en timme och tog sedan bussen till staden.",
    "pl": "Pociąg był spóźniony, ponieważ na torach leżał śnieg. Czekaliśmy godzinę, a potem nie było już biletów.",
    "tr": "Tren raylarda kar olduğu için geç kaldı. Bir saat bekledik ve sonra otobüse bindik, ama çok geç oldu.",
    "vi": "Tàu đến muộn vì có tuyết trên đường ray. Chúng tôi đã đợi một giờ và sau đó đi xe buýt.",
    "id": "Kereta terlambat karena ada salju di rel. Kami menunggu satu jam dan kemudian naik bus yang ke kota.",
    "ru": "Поезд опоздал, потому что на путях лежал снег. Мы ждали час, а потом поехали на автобусе.",
    "uk": "Поїзд запізнився, тому що на коліях лежав сніг. Ми чекали годину, а потім поїхали автобусом.",
    "el": "Το τρένο άργησε επειδή υπήρχε χιόνι στις γραμμές.",
    "he": "הרכבת איחרה כי היה שלג על המסילה.",
    "ar": "تأخر القطار لأن الثلج كان على السكة. انتظرنا ساعة ثم أخذنا الحافلة إلى البيت.",
    "fa": "قطار دیر کرد چون برف روی ریل بود. ما یک ساعت منتظر ماندیم و بعد با اتوبوس به خانه رفتیم.",
    "hi": "पटरी पर बर्फ होने के कारण ट्रेन देर से आई।",
    "bn": "লাইনে বরফ থাকায় ট্রেন দেরি করেছিল।",
    "ta": "தண்டவாளத்தில் பனி இருந்ததால் ரயில் தாமதமானது.",
    "th": "รถไฟมาสายเพราะมีหิมะบนราง",
    "ko": "선로에 눈이 쌓여서 기차가 늦었습니다.",
    "ja": "線路に雪が積もっていたので、電車が遅れました。",
    "zh": "因为铁轨上有雪，火车晚点了。我们等了一个小时。",
}


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


def test_every_language_is_told_from_every_other(score_texts: Scores) -> None:
    assert set(TEXTS) == set(LANGUAGES)
    for language in LANGUAGES:
        shares = {other: language_share(text, language)[0] for other, text in TEXTS.items()}
        assert shares[language] > 0.95, language
        assert max(share for other, share in shares.items() if other != language) < 0.6, (language, shares)
        passed = score_texts("language", list(TEXTS.values()), language=language, at_least=0.8)
        assert [o for o, score in zip(TEXTS, passed, strict=True) if score.value] == [language]


def test_the_share_of_a_mixed_text(score_texts: Scores) -> None:
    mixed = "The answer is clear and it is here.\nWir haben es nicht gefunden, aber das ist gut.\n"
    english, german = sum(map(str.isalpha, mixed.split("\n")[0])), sum(map(str.isalpha, mixed.split("\n")[1]))
    assert (english, german) == (27, 36)
    assert language_share(mixed, "en")[0] == pytest.approx(27 / 63)
    assert language_share(mixed, "de")[0] == pytest.approx(36 / 63)
    thought = "让我想想。 So the answer is four."
    assert language_share(thought, "zh")[0] == pytest.approx(4 / 21)  # four characters, 17 letters
    assert values(score_texts("language", [thought], language="en", at_least=0.5)) == [1]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("so ```python\nfor x in y: pass\n``` done", "so   done"),
        ("so `x in y` done", "so   done"),
        ("so $\\frac{a}{b}$ and $$x$$ done", "so   and   done"),
        ("costs 5 $ today", "costs 5 $ today"),  # a mark without a partner
        ("\\alpha of https://example.org/the/of <answer>is</answer>", "  of    is "),
    ],
)
def test_what_is_left_out(text: str, kept: str) -> None:
    assert prose(text) == kept


def test_formulas_and_code_are_in_no_language() -> None:
    text = "因此答案是 $\\frac{the}{of}$ 。\n```python\nfor the in of: pass\n```\n"
    assert language_share(text, "zh")[0] == 1.0


def test_short_and_empty_texts(score_texts: Scores) -> None:
    texts = ["", "42", "+-!?", "\ud800\0", "OK.", "да"]
    assert values(score_texts("language", texts, language="en")) == [0, 0, 0, 0, 1, 0]
    assert score_texts("language", ["42"], language="en")[0].note == "there are no letters"


def test_each_row_may_have_its_own_language(score_texts: Scores) -> None:
    assert values(score_texts("language", [TEXTS["de"], TEXTS["en"]], {"lang": "de"}, column="lang")) == [1, 0]
    (score,) = score_texts("language", ["x"], {"lang": "xx"}, column="lang")
    assert score.status == "failed"
    assert score.note.startswith("row p: column 'lang' holds 'xx'; expected one of en, de")
    for options, said in (
        ({}, "exactly one of language and column"),
        ({"language": "en", "column": "c"}, "exactly one of language and column"),
        ({"language": "tlh"}, "'tlh' is not one of the languages"),
    ):
        with pytest.raises(UsageError, match=said):
            load_reward("language", **options)


def test_language_is_gamed_by_function_words_and_by_short_text(score_texts: Scores) -> None:
    salad, keywords, short = "the of and the of and", "alpha beta gamma delta " * 3, "Alpha."
    assert values(score_texts("language", [salad, keywords, short], language="en")) == [1, 0, 1]
    assert (score_texts("repetition", [salad * 3])[0].value or 0) < -0.5


def test_the_word_lists_are_sound() -> None:
    assert set(FUNCTION_WORDS) <= set(LANGUAGES)
    for language, words in FUNCTION_WORDS.items():
        assert len(words) >= 25
        scripts = {script_of(letter) for word in words for letter in word if letter.isalpha()}
        assert scripts <= set(LANGUAGES[language]), (language, scripts)
        assert words == {word.lower() for word in words}


@given(st.text(max_size=200), st.sampled_from(sorted(LANGUAGES)))
def test_any_text_has_a_share(text: str, language: str) -> None:
    share, note = language_share(text, language)
    assert 0.0 <= share <= 1.0
    assert note


@given(st.text(alphabet="ab. \n", max_size=2000))
def test_stretches_keep_every_letter(text: str) -> None:
    assert "".join(stretches(text)).replace(" ", "") == text.replace(".", "").replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("piece", ["the dog ", "a", "的", "<a", "\\a", "http://", "$", "`", "\0", "\ud800", "a'", ". "])
def test_a_long_text_is_read_in_bounded_time(piece: str) -> None:
    text: Any = piece * (250_000 // len(piece))
    started = time.process_time()
    for language in ("en", "ja"):
        assert 0.0 <= language_share(text, language)[0] <= 1.0
    assert time.process_time() - started < 2


def test_many_short_sentences_cost_what_they_hold_and_not_what_the_word_lists_hold() -> None:
    """Each is a stretch of its own; looking for every listed word in each took 3 s where this takes 0.4."""
    started = time.process_time()
    assert language_share("a." * 50_000, "en")[0] in (0.0, 1.0)
    assert time.process_time() - started < 1.2


def test_a_language_outside_the_list_counts_as_its_neighbour() -> None:
    danish = "Toget var forsinket, fordi der lå sne på skinnerne. Vi ventede en time og tog så bussen."
    assert language_share(danish, "sv")[0] == 1.0
    assert language_share("रुळांवर बर्फ असल्यामुळे ट्रेन उशिरा आली.", "hi")[0] == 1.0
