"""The page is one file, obeys nobody who wrote into it, and claims nothing that an interval does not."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from report_findings import HOSTILE, bout, findings

from charter.cli.pages.plane import Point, plane
from charter.cli.pages.plots import Bar, Series, Stack, bars, dots, fitted, lines, stacked
from charter.cli.pages.svg import Scale, log_ticks, tick_text, ticks
from charter.cli.pages.text import escape, number, seconds, share, visible, word_diff
from charter.cli.report_lives import choose_lives
from charter.cli.report_page import report_html, write_report
from charter.constitution.records import Draft, Revision
from charter.evaluate.report import Findings, build_report, sentences

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags and texts of a page; fails where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not self._open or self._open[-1] != "style":
            self.text += data


def test_the_page_stands_alone_and_is_whole():
    html = report_html(build_report(findings()))
    page = Page(html)
    assert {"script", "link", "img", "iframe", "object", "form", "a"}.isdisjoint(page.tags)
    names = {name for name, _ in page.attributes}
    assert {"src", "href", "onerror", "onload"}.isdisjoint(names)
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'" in html
    assert 'name="viewport"' in html
    assert page.tags.count("svg") == 2 * page.tags.count("figure") > 0
    for title in ("What training changed", "Head to head", "Where the data went", "Principles", "Judge calibration",
                  "Preference model", "Time and cost", "Three lives", "How to read"):  # fmt: skip
        assert title in page.text


def test_what_a_model_wrote_is_shown_and_not_obeyed():
    html = report_html(build_report(findings()))
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert not set("\u202e\u202c\x1b\x00\u200b\udc80") & set(html)
    for shown in (r"\u{202e}", r"\u{1b}", r"\u{0}", r"\u{200b}", r"\u{dc80}"):
        assert shown in html


@given(st.text() | st.sampled_from([HOSTILE, '"><svg onload=x>', "\u2028\u2066", "a\r\nb"]))
def test_no_text_escapes(text):
    out = escape(text)
    assert not re.search(r"[<>\"']", out)
    assert all(c == "\n" or c.isprintable() or c in "\u202f\xa0" or c.isspace() for c in out)
    out.encode("utf-8")


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_diff_holds_both_texts(before, after):
    page = word_diff(before, after)
    clean = {
        side: re.sub(r"<[^>]*>", "", re.sub(rf"<{gone}>.*?</{gone}>\n?", "", page, flags=re.DOTALL))
        for side, gone in (("before", "ins"), ("after", "del"))
    }
    for side, text in (("before", before), ("after", after)):
        import html

        assert html.unescape(clean[side]).strip("\n") == visible(text).strip("\n")


def test_a_diff_marks_words():
    assert word_diff("the cat sat down", "the dog sat down") == "the <del>cat</del><ins>dog</ins> sat down"
    assert word_diff("one two", "three four") == "<del>one two</del>\n<ins>three four</ins>"


def test_the_sentences_say_where_the_data_cannot_decide():
    said = sentences(build_report(findings()))
    assert said[0] == (
        "The policy's score by 'share of checks met' went from 0.412 to 0.597 on 64 held-out prompts: +0.185, 95 % "
        "interval of the difference [+0.121, +0.249]. The interval excludes 0: it rose."
    )
    assert "cannot decide whether it changed at all: the interval holds 0" in said[1]
    assert said[2].endswith("'after GRPO' is preferred to 'start' with p = 0.48 [0.38, 0.58]: "
                            "that cannot decide which is better.")  # fmt: skip
    assert said[3].endswith("p = 0.72 [0.62, 0.82].")
    assert "it became more evasive" in said[4]


def test_a_preference_model_that_may_be_no_better_than_a_rule_says_so():
    model = {
        "accuracy": 0.92, "interval": [0.8245, 0.9679], "baselines": [{"name": "shorter wins", "accuracy": 0.81}],
        "against": {
            "shorter wins": {"accuracy": 0.81, "difference": 0.111, "interval": [-0.01, 0.213]},
            "refusal wins": {"accuracy": 0.57, "difference": 0.354, "interval": [0.25, 0.45]},
        },
    }  # fmt: skip
    assert sentences({"preference_model": model}) == [
        "The preference model is right on 92.0% of the held-out human pairs [82.5%, 96.8%]; shorter wins on 81.0%.",
        "Against 'shorter wins' that is +11.1 points [-1.0, +21.3]: that cannot decide whether the preference model is "
        "better.",
    ]


def test_overlapping_shares_claim_no_difference():
    report = build_report(findings())
    for row in report["arena"]["evasive"]:
        row["answered"] = {"share": 0.9, "interval": [0.8, 0.96], "n": 60}
    assert any("no difference in evasiveness is claimed" in each for each in sentences(report))


def test_a_run_that_measured_nothing_has_all_keys_and_a_page():
    report = build_report(Findings(name="empty", model="m", constitution="c"))
    assert {"funnel", "principles", "calibration", "preference_model", "arena", "effect", "seconds"} <= report.keys()
    assert report["effect"] is None
    page = Page(report_html(report))
    assert "Nothing was evaluated in this run" in page.text
    assert "svg" not in page.tags


def test_report_json_is_json_and_the_page_is_made_from_it_alone(tmp_path):
    report = build_report(findings())
    report["seconds"]["arena"] = 1.5
    safe = json.loads(json.dumps(report).replace("\\udc80", ""))
    write_report(tmp_path, safe)
    again = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert (tmp_path / "report.html").read_text("utf-8") == report_html(again)
    odd = build_report(Findings(name="n", model="m", constitution="c", seconds={"a": float("nan")}))
    assert odd["seconds"] == {"a": None}


def test_lives_are_drawn_by_the_seed_among_drafts_with_a_revision():
    rows, first = [], None
    for i in range(6):
        messages = ({"role": "user", "content": f"q{i}"},)
        draft = Draft(prompt_id=f"p{i}", messages=messages, text="t", model="m")
        rows.append(draft.row())
        first = first or draft.id
        if i:
            revision = Revision(
                draft=draft.id, parent=draft.id, critique=None, principle="p", step=1, text="u", model="m"
            )
            rows.append(revision.row())
    rows = [json.loads(json.dumps(each)) for each in rows]
    one, two = ([each["id"] for each in choose_lives(rows, seed=seed)] for seed in (1, 1))
    assert one == two
    assert len(set(one)) == 3
    assert first not in one
    assert len(choose_lives(rows[:1])) == 0


def test_ticks_are_round_and_inside():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.13, 0.31) == [-0.1, 0.0, 0.1, 0.2, 0.3]
    assert ticks(930, 1070) == [950, 1000, 1050]
    assert log_ticks(1, 1000) == [1, 10, 100, 1000]
    assert log_ticks(20, 60) == [20, 50]
    assert [tick_text(value, 0.2) for value in (0.0, -0.2)] == ["0.0", "−0.2"]
    assert [tick_text(value, 1e9) for value in (2e9, 5e6, 20_000)] == ["2G", "5M", "20k"]


def test_a_scale_is_linear_or_logarithmic_and_stays_inside():
    scale = Scale(domain=(0, 10), span=(100, 200))
    assert [scale(value) for value in (0, 5, 10, 11, -1)] == [100, 150, 200, 200, 100]
    assert Scale(domain=(1, 100), span=(0, 2), log=True)(10) == pytest.approx(1)


def test_figures_are_short():
    shown = [number(value) for value in (0.1234, 12.34, 1234, -0.5, float("nan"), None, True, 0.0)]
    assert shown == ["0.123", "12.3", "1\u202f234", "−0.500", "–", "–", "–", "0"]
    assert [share(value) for value in (0.5, 0.014, 1.0, None)] == ["50\u202f%", "1.4\u202f%", "100\u202f%", "–"]
    assert [seconds(value) for value in (8.06, 125, 4320)] == [
        "8.1\u202fs",
        "2\u202fmin 5\u202fs",
        "1\u202fh 12\u202fmin",
    ]


def test_a_bar_is_as_long_as_its_value():
    drawing = bars([Bar(label="a", value=0.5), Bar(label="b", value=1.0), Bar(label="c", value=None)], x_range=(0, 1))
    one, two = (float(width) for width in re.findall(r'width="([\d.]+)" height="14"', drawing))
    assert two == pytest.approx(2 * one, rel=0.01)
    assert "not measured" in drawing


def test_parts_of_a_stack_add_up_and_a_gap_breaks_a_line():
    drawing = stacked([Stack(label="x", parts={"a": 1, "b": 3})])
    widths = [float(each) for each in re.findall(r'width="([\d.]+)" height="14"', drawing)]
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.01)
    path = lines([Series(name="s", points=[(0, 1.0), (1, None), (2, float("nan")), (3, 2.0), (4, 3.0)])])
    assert re.search(r'd="M[\d.]+ [\d.]+M[\d.]+ [\d.]+L[\d.]+ [\d.]+"', path)


@pytest.mark.parametrize("width", [330, 640])
def test_nothing_to_plot_says_so_and_odd_numbers_break_nothing(width):
    nan, inf = float("nan"), float("inf")
    empty = [
        lines([], width=width), lines([Series(name="s", points=[(1, None), (2, inf)])], width=width),
        bars([Bar(label="a", value=nan)], width=width), stacked([], width=width), dots([], width=width),
        plane([Point(label="p", x=None, y=1.0)], width=width),
    ]  # fmt: skip
    assert all("nothing was measured" in each for each in empty)
    odd = [
        lines([Series(name="s", points=[(1, 2.0)], band=[(1, nan, 3)])], width=width, log_x=True, marks_at={"m": nan}),
        bars([Bar(label="<b>", value=-1.0, interval=(nan, 1.0))], width=width, marks_at={"zero": 0.0}),
        dots([Bar(label="a", value=3.0, interval=(2.0, 4.0)), Bar(label="b", value=None)], width=width),
        plane([Point(label="p", x=1.0, y=1.0, x_interval=(nan, nan))], width=width),
        fitted(lambda wide: dots([Bar(label="a", value=1.0)], width=wide)),
    ]
    for each in odd:
        Page(each)
        assert "nan" not in each
        assert "inf" not in each
        assert "<b>" not in each


def test_an_arena_of_one_axis_has_no_plane():
    report = build_report(findings())
    report["arena"] = {**report["arena"], "helpful": None, "harmless": bout(930, 1000, 1070, 0.3), "evasive": []}
    page = Page(report_html(report))
    assert "Harmless" in page.text
    assert "Up is more helpful" not in page.text
