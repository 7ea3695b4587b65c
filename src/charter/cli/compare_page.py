"""compare.md and compare.html out of the record of a comparison, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from charter.cli.compare_plots import pictures
from charter.cli.compare_table import CLAIM_HEAD, DIFFERENCE_HEAD, claims, differences, groups
from charter.cli.pages.plots import PLOT_CSS, fitted
from charter.cli.pages.text import escape

BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"
"""Markers in a Markdown file between which `charter compare --render DIR --into FILE` writes."""

Record = Mapping[str, Any]

STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 Georgia,"Times New Roman",serif}
main{max-width:68rem;margin:0 auto;padding:2rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem;font-weight:600}
h2{font-size:1.15rem;margin:2.4rem 0 .6rem;font-weight:600;border-bottom:1px solid var(--rule);padding-bottom:.2rem}
p{max-width:46rem}p.lead,figcaption{color:var(--soft)}figure{margin:0 0 1.6rem;max-width:46rem}
figcaption{font-size:.88rem;margin-top:.3rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;table-layout:fixed;min-width:46rem;font-size:.86rem;line-height:1.35;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--rule)}
thead th{border-bottom:1.5px solid var(--ink)}
tbody th{font-weight:400;color:var(--soft)}
ul{padding-left:1.2rem}
@media print{main{max-width:none;padding:0}.scroll{overflow:visible}h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""


def markdown(record: Record) -> str:
    """The record as Markdown: what was compared, the table, and what should be known beside it."""
    titles = [str(column["title"]) for column in record["methods"].values()]
    text = [_about(record), ""]
    if told := claims(record):
        text += ["**What is commonly said, and what was measured**", "", *_rows(CLAIM_HEAD, told), ""]
    for title, rows in groups(record):
        text += [f"**{title}**", "", *_rows(["", *titles], [(name, *cells) for name, cells in rows]), ""]
    if apart := differences(record):
        rows = [(name, *cells) for name, cells in apart]
        text += ["**Is one better than another?**", "", *_rows(DIFFERENCE_HEAD, rows), ""]
    text += [f"- {note}" for note in _notes(record)]
    return "\n".join(text) + "\n"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    marked = [f"| {' | '.join(row)} |" for row in lines]
    return [marked[0], "|---" * len(head) + "|", *marked[1:]]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> str:
    """A heading and a table; a row's first cell names it. widths: of the columns, in hundredths; equal if empty."""
    columns = "".join(f'<col style="width:{width}%">' for width in widths)
    top = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope=row>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return (
        f"<h2>{escape(title)}</h2><div class=scroll><table>{columns}<thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def html(record: Record) -> str:
    """The record as one page without anything from elsewhere."""
    titles = [str(column["title"]) for column in record["methods"].values()]
    tables = [_table(title, ["", *titles], [(name, *cells) for name, cells in rows]) for title, rows in groups(record)]
    if told := claims(record):
        tables.insert(0, _table("What is commonly said, and what was measured", CLAIM_HEAD, told, (28, 56, 16)))
    if apart := differences(record):
        rows = [(name, *cells) for name, cells in apart]
        tables.append(_table("Is one better than another?", DIFFERENCE_HEAD, rows))
    notes = "".join(f"<li>{escape(note)}</li>" for note in _notes(record))
    plots = "".join(fitted(each.draw, escape(each.caption)) for each in pictures(record))
    name = f"{', '.join(str(c['title']) for c in record['methods'].values())} on the same work"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(name)}</title><style>{PLOT_CSS}{STYLE}</style></head><body><main>"
        f"<h1>{escape(name)}</h1><p class=lead>{escape(_about(record))}</p>{plots}{''.join(tables)}"
        f"<h2>Beside the numbers</h2><ul>{notes}</ul></main></body></html>\n"
    )


def write_pages(folder: Path, record: Record) -> None:
    """Write compare.md and compare.html beside compare.json. folder: theirs, or the record's file."""
    from charter.run.atomic import write_text

    place = folder if folder.is_dir() else folder.parent
    write_text(place / "compare.md", markdown(record))
    write_text(place / "compare.html", html(record))


def write_between(file: Path, text: str, markers: tuple[str, str] = (BEGIN, END)) -> None:
    """Put the text between the markers of a Markdown file. Raises: UsageError where they are not there."""
    from charter.errors import UsageError
    from charter.run.atomic import write_text

    try:
        content = file.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}. Name a Markdown file with the markers") from None
    begin, end = markers
    if content.count(begin) != 1 or content.count(end) != 1 or content.index(begin) > content.index(end):
        raise UsageError(f"{file} needs the lines {begin} and {end}, once each and in this order")
    head, _, rest = content.partition(begin)
    write_text(file, f"{head}{begin}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}")


def _about(record: Record) -> str:
    kind, limit = next(iter(record["budget"].items()))
    unit = "sampled tokens" if kind == "tokens" else "seconds of training"
    seeds, sampling = record["seeds"], record["sampling"]
    several = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]} alone"
    return (
        f"Every method begins with {record['model']} and learns from {record['data']}, {sampling['group_size']} "
        f"completions of at most {sampling['max_new_tokens']} tokens per prompt, at temperature "
        f"{sampling['temperature']:g}, until it has used {limit:,g} {unit}; {several}. "
        "Each run had a process of its own."
    )


def _notes(record: Record) -> list[str]:
    return [
        *record["notes"],
        "Tokens, operations, times, lengths and KL are means over seeds, peaks the largest of them, and what could not "
        "be used is summed.",
        "Time by the clock counts whatever else the machine did; processor time counts this process alone.",
        "Operations are counted by formula, as the mathematics needs them: 2 per weight and token forward, 4 backward, "
        "attention added, a prompt once per group; embedding tables are left out.",
        "The estimate has no allocator, no libraries and no interpreter in it; the measured peak has. The peak is the "
        "process's own high-water mark over its training; held-out prompts are judged in another process.",
        "The KL is KL(trained ‖ start) on held-out prompts, from completions that the trained policy drew; k1 may be "
        "below 0 by chance, k3 cannot.",
    ]
