"""Results as one HTML page that needs nothing else: pictures inside it, tables as HTML, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from rich.table import Table
from rich.text import Text

from pgwinnow.bench.plot import DARK, LIGHT, Chart, charts, side_order
from pgwinnow.bench.report import Results, tables, verdict

STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --ground: #fff; --line: #d8dee4; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --ground: #12161c; --line: #30363d; --bad: #ff8a80; }
}
body { margin: 0 auto; padding: 1rem; max-width: 80rem; font: 1rem/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--ground); overflow-wrap: anywhere; }
.charts { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  align-items: start; }
caption { font-weight: 600; text-align: left; padding: .25rem 0; }
img { width: 100%; height: auto; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: normal; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bad { color: var(--bad); }
"""


def write_page(
    runs: Sequence[tuple[str, Results]], out: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Write every chart of the named runs as a PNG file, and the page ``index.html``, into the folder ``out``.

    ``progress`` is told how many of the pictures are written.
    """
    out.mkdir(parents=True, exist_ok=True)
    sides = side_order([results for _, results in runs])
    drawn = [charts(results, sides) for _, results in runs]
    done, total = 0, sum(map(len, drawn))
    sections = []
    for (name, results), own in zip(runs, drawn, strict=True):
        pictures = []
        for chart in own:
            progress(done, total)
            light, dark = chart.png(LIGHT), chart.png(DARK)
            (out / f"{name}-{chart.name}.png").write_bytes(light)
            pictures.append(picture(chart, light, dark))
            done += 1
        sections.append(section(name, results, pictures))
    progress(done, total)
    page = out / "index.html"
    page.write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>pgwinnow bench</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        "<h1>pgwinnow bench</h1>\n" + "\n".join(sections) + "\n</body>\n</html>\n"
    )
    return page


def section(name: str, results: Results, pictures: Sequence[str]) -> str:
    """One run: what it was, its charts, its tables."""
    facts = results.environment
    lines = [f"<p>{escape(str(facts.get('data', '')))}<br><code>{escape(str(facts.get('command', '')))}</code></p>"]
    if results.answers:
        sentences = (f"<li>{escape(line)}</li>" for line in verdict(results.answers, float(facts["recall"])))
        lines.append(f"<ul>{''.join(sentences)}</ul>")
    lines.append(f'<div class="charts">{"".join(pictures)}</div>')
    lines += [html_table(table) for table in tables(results)]
    return f"<section>\n<h2>{escape(name)}</h2>\n" + "\n".join(lines) + "\n</section>"


def picture(chart: Chart, light: bytes, dark: bytes) -> str:
    """A chart inside the page, in the form that suits the reader's colours."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{data_uri(dark)}">'
        f'<img src="{data_uri(light)}" alt="{escape(chart.title)}"></picture>'
    )


def data_uri(png: bytes) -> str:
    """A picture as text that stands for its address."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def html_table(table: Table) -> str:
    """A table of the report as HTML; what is red there is marked here."""
    kinds = ["number" if column.justify == "right" else "" for column in table.columns]
    head = ""
    if table.show_header:
        names = (cell("th", str(column.header), kind) for column, kind in zip(table.columns, kinds, strict=True))
        head = f"<thead><tr>{''.join(names)}</tr></thead>"
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join(
        f"<tr>{''.join(cell('td', str(value), kind) for value, kind in zip(row, kinds, strict=True))}</tr>"
        for row in rows
    )
    title = f"<caption>{escape(str(table.title))}</caption>" if table.title else ""
    return f'<div class="scroll"><table>{title}{head}<tbody>{body}</tbody></table></div>'


def cell(tag: str, markup: str, kind: str) -> str:
    """One cell from rich's markup."""
    text = Text.from_markup(markup)
    classes = [kind, *(["bad"] if any("red" in str(span.style) for span in text.spans) else [])]
    joined = " ".join(filter(None, classes))
    return f'<{tag}{f""" class="{joined}" """.rstrip() if joined else ""}>{escape(text.plain)}</{tag}>'
