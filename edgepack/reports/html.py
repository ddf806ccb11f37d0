"""HTML that cannot be broken by what it shows: every text is escaped where it becomes markup."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgepack.reports.drawing import Picture


@dataclass(frozen=True)
class Markup:
    """A piece of HTML that is safe as it is."""

    text: str


Content = str | Markup


def escape(content: Content) -> str:
    return content.text if isinstance(content, Markup) else html.escape(content)


def element(name: str, *content: Content, kind: str = "", attributes: Mapping[str, str] | None = None) -> Markup:
    """`<name class="kind" …>content</name>`."""
    given = {**({"class": kind} if kind else {}), **(attributes or {})}
    written = "".join(f' {key}="{html.escape(value)}"' for key, value in given.items())
    return Markup(f"<{name}{written}>{''.join(map(escape, content))}</{name}>")


def join(parts: Sequence[Markup]) -> Markup:
    return Markup("\n".join(part.text for part in parts if part.text))


NOTHING = Markup("")


def card(value: str, caption: str, doubtful: bool = False) -> Markup:
    return element("div", element("b", value), element("span", caption), kind="card doubtful" if doubtful else "card")


def cards(items: Sequence[Markup]) -> Markup:
    return element("div", *items, kind="cards") if items else NOTHING


def chips(items: Sequence[tuple[str, str]]) -> Markup:
    """Names and values in a row that wraps."""
    return element("ul", *(element("li", element("span", name), " ", value) for name, value in items), kind="chips")


def figure(drawn: Picture, caption: Content) -> Markup:
    """The picture that suits the page's width, the other one not shown."""
    wide, narrow = (
        element("div", Markup(svg), kind=kind) for svg, kind in ((drawn.wide, "wide"), (drawn.narrow, "narrow"))
    )
    return element("figure", wide, narrow, element("figcaption", caption))


def facts(rows: Sequence[tuple[str, Content]]) -> Markup:
    """Names and values; empty values are left out."""
    shown = [(name, value) for name, value in rows if value not in ("", None)]
    return element("dl", *(part for name, value in shown for part in (element("dt", name), element("dd", value))))


def folded(summary: str, *content: Markup) -> Markup:
    """Closed at first; opens without JavaScript, and in print."""
    return element("details", element("summary", summary), *content)


@dataclass(frozen=True)
class Column:
    title: str
    kind: str = ""


def table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[Content]], heads: int = 0) -> Markup:
    """A table that scrolls on its own on a narrow screen. kind of a column: `number`, `name` or `reason`.

    title: what a screen reader says; heads: which column names its row
    """
    head = element("tr", *(_head(column, "col") for column in columns))
    body = [element("tr", *(_cell(*each, heads) for each in enumerate(zip(columns, row, strict=True)))) for row in rows]
    inner = element("table", element("thead", head), element("tbody", *body))
    return element("div", inner, kind="table", attributes={"role": "region", "aria-label": title, "tabindex": "0"})


def _head(column: Column, scope: str) -> Markup:
    if not column.title:
        return element("td", "")
    return element("th", column.title, kind=column.kind, attributes={"scope": scope})


def _cell(index: int, given: tuple[Column, Content], heads: int) -> Markup:
    column, content = given
    if index == heads:
        return element("th", content, kind=column.kind, attributes={"scope": "row"})
    return element("td", content, kind=column.kind)
