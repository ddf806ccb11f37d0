"""HTML that cannot be broken by what it shows: every text is escaped where it becomes markup."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Markup:
    """A piece of HTML that is safe as it is."""

    text: str


Content = str | Markup


def escape(content: Content) -> str:
    return content.text if isinstance(content, Markup) else html.escape(content)


def element(name: str, *content: Content, kind: str = "") -> Markup:
    """`<name class="kind">content</name>`."""
    attribute = f' class="{html.escape(kind)}"' if kind else ""
    return Markup(f"<{name}{attribute}>{''.join(map(escape, content))}</{name}>")


def join(parts: Sequence[Markup]) -> Markup:
    return Markup("\n".join(part.text for part in parts))


def card(value: str, caption: str, doubtful: bool = False) -> Markup:
    return element("div", element("b", value), element("span", caption), kind="card doubtful" if doubtful else "card")


def cards(items: Sequence[Markup]) -> Markup:
    return element("div", *items, kind="cards")


def figure(svg: str, caption: Content) -> Markup:
    return element("figure", Markup(svg), element("figcaption", caption))


def facts(rows: Sequence[tuple[str, Content]]) -> Markup:
    """Names and values; empty values are left out."""
    shown = [(name, value) for name, value in rows if value not in ("", None)]
    return element("dl", *(part for name, value in shown for part in (element("dt", name), element("dd", value))))


@dataclass(frozen=True)
class Column:
    title: str
    kind: str = ""


def table(columns: Sequence[Column], rows: Sequence[Sequence[Content]]) -> Markup:
    """A table that scrolls on its own on a narrow screen. kind of a column: `number`, `name` or `reason`."""
    head = element("tr", *(element("th", column.title, kind=column.kind) for column in columns))
    body = [
        element("tr", *(element("td", cell, kind=column.kind) for column, cell in zip(columns, row, strict=True)))
        for row in rows
    ]
    inner = element("table", element("thead", head), element("tbody", *body))
    return element("div", inner, kind="table")
