"""HTML pages of reports: self-contained, light and dark, with plots as inline SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import Environment
from markupsafe import Markup

from kommuna.spec.artifacts import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Plots are drawn in these placeholder colours, which the style sheet replaces, so one SVG serves light and dark mode.
INK, MUTED, GOOD, BAD, ACCENT, BAND = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f", "#101112"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GOOD: "--good", BAD: "--bad", ACCENT: "--accent", BAND: "--band"}

_PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2430; --muted: #6b7686; --line: #dfe4ea;
        --good: #2c8a57; --bad: #c2413a; --accent: #2f6fb7; --band: #eef2f7; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181e; --ink: #e6eaf0; --muted: #97a3b3; --line: #2c343f;
          --good: #5cc48d; --bad: #f0776d; --accent: #6fb0f5; --band: #1e252e; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
       max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.lead { color: var(--muted); margin-top: 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1rem 0; }
.figures b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.figures span { color: var(--muted); font-size: .85rem; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--muted); font-weight: 600; } td.number { text-align: right; white-space: nowrap; } .bad { color: var(--bad); }
.good { color: var(--good); } a { color: var(--accent); text-decoration: none; }
details { border-bottom: 1px solid var(--line); padding: .4rem 0; } summary { cursor: pointer; }
details table { margin: .5rem 0 .5rem 1rem; } details td:first-child { overflow-wrap: anywhere; }
.first { border-left: .25rem solid var(--bad); background: var(--band); padding: .6rem 1rem; margin: 1rem 0; }
.first b { font-size: 1.1rem; } .first p { margin: .2rem 0; }
code { color: var(--muted); overflow-wrap: anywhere; }
mark { background: none; color: var(--accent); font-weight: 600; }
.search { font: inherit; color: inherit; background: var(--band); border: 1px solid var(--line); padding: .2rem .5rem;
          margin-bottom: .5rem; }
.sortable th { cursor: pointer; } th[aria-sort=ascending]::after { content: " ▲"; }
th[aria-sort=descending]::after { content: " ▼"; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="lead">{{ lead }}</p>
{% if figures %}
<div class="figures">{% for name, value in figures %}<div><b>{{ value }}</b><span>{{ name }}</span></div>{% endfor %}</div>
{% endif %}
{% for heading, body in sections %}
<section>{% if heading %}<h2>{{ heading }}</h2>{% endif %}<div class="wide">{{ body }}</div></section>
{% endfor %}
{% if sortable %}
<script>
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const search = document.createElement("input");
  search.className = "search"; search.type = "search"; search.placeholder = "search";
  search.setAttribute("aria-label", "show only lines with this text");
  search.oninput = () => { const wanted = search.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted); };
  table.before(search);
  heads.forEach((head, at) => head.onclick = () => {
    const way = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    const value = (row) => { const text = row.cells[at].textContent, number = parseFloat(text.replaceAll(",", ""));
      return row.cells[at].classList.contains("number") ? number : text === "–" ? -Infinity : text; };
    const order = (a, b) => { const x = value(a), y = value(b);
      return (typeof x === "string" && typeof y === "string" ? x.localeCompare(y) : x > y ? 1 : x < y ? -1 : 0) * way; };
    body.append(...[...body.rows].sort(order)); });
}
</script>
{% endif %}
</body>
</html>
""")

_TABLE = Environment(autoescape=True).from_string(
    '<table{{ " class=sortable" if sortable }}>'
    "<thead><tr>{% for c in columns %}<th>{{ c }}</th>{% endfor %}</tr></thead><tbody>"
    "{% for row in rows %}<tr>{% for value, number, mark in row %}"
    '<td class="{{ "number " if number }}{{ mark }}">{{ value }}</td>'
    "{% endfor %}</tr>{% endfor %}</tbody></table>"
)


def page(
    title: str,
    lead: str,
    *,
    figures: Sequence[tuple[str, str]] = (),
    sections: Sequence[tuple[str, Markup]] = (),
) -> Report:
    """Renders a report page.

    Args:
        title: the heading.
        lead: one line below the heading.
        figures: name and value of the few most important numbers.
        sections: heading and body (`table`, `plot`) of each section; plain text is escaped.
    """
    sortable = any("class=sortable" in body for _, body in sections)
    return Report(
        _PAGE.render(title=title, lead=lead, figures=list(figures), sections=list(sections), sortable=sortable)
    )


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    mark: Callable[[int, str, Any], str] | None = None,
    sortable: bool = False,
) -> Markup:
    """Renders an HTML table: every value is escaped, floats get three decimals, None a dash.

    Args:
        columns: the headings.
        rows: the values of each row.
        mark: called with row number, column name and value; returns `"good"`, `"bad"` or `""`.
        sortable: whether a click on a heading sorts the rows, and a field above the table filters them.
    """
    shown = [
        [
            (_text(v), isinstance(v, int | float), mark(i, c, v) if mark else "")
            for c, v in zip(columns, row, strict=True)
        ]
        for i, row in enumerate(rows)
    ]
    return Markup(_TABLE.render(columns=columns, rows=shown, sortable=sortable))


def plot(draw: Callable[[Axes], None], *, width: float = 9.0, height: float = 3.5) -> Markup:
    """Renders a plot as inline SVG; this module's colours adapt to light and dark mode.

    Args:
        draw: called with empty axes.
        width: inches; enlarged if labels would leave the axes less than half of it.
        height: inches; enlarged like the width.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "kommuna",  # the same figure gives the same bytes
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "legend.frameon": False,
        "font.size": 9,
        "text.parse_math": False,  # a tag such as 'fees $5 and $10' is text, not a formula
    }
    with rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        _make_room(figure, axes)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    svg = target.getvalue()
    svg = svg[svg.index("<svg") :]
    for stand_in, variable in _VARIABLES.items():
        svg = re.sub(stand_in, f"var({variable})", svg, flags=re.IGNORECASE)
    return Markup(svg)


def _make_room(figure: Figure, axes: Axes) -> None:
    """Enlarges a figure whose labels would leave no room for the axes."""
    around, own = axes.get_tightbbox(), axes.bbox
    if around is not None:
        width, height = figure.get_size_inches()
        beside, below = (around.width - own.width) / figure.dpi, (around.height - own.height) / figure.dpi
        figure.set_size_inches(max(width, width / 2 + beside), max(height, height / 2 + below))


def collapsed(heading: str, body: Markup, *, anchor: str = "", opened: bool = False) -> Markup:
    """Renders a collapsible part of the page.

    Args:
        heading: the visible line.
        body: the part that a click opens.
        anchor: id that links point to.
        opened: whether it is open at first.
    """
    start = Markup('<details id="{}"{}><summary>{}</summary>').format(
        anchor, Markup(" open") if opened else Markup(""), heading
    )
    return start + body + Markup("</details>")


def link(text: str, anchor: str) -> Markup:
    """Renders a link to an anchor on the page."""
    return Markup('<a href="#{}">{}</a>').format(anchor, text)


def row_text(row: Mapping[str, object], columns: Iterable[str]) -> str:
    """Describes a row of a table in words.

    >>> row_text({"amount": 120.0, "country": None, "night": True}, ["amount", "country", "night"])
    'amount 120, country –, night yes'
    """
    return ", ".join(f"{name} {_in_words(row[name])}" for name in columns if name in row)


def _in_words(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return _text(value) if value is None or isinstance(value, bool) else str(value)


def _text(value: Any) -> str:
    if isinstance(value, Markup):
        return value
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
