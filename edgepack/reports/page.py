"""One self-contained page: whether the numbers can be trusted, the numbers, what they rest on; what was built and why."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from edgepack.errors import UsageError
from edgepack.report import Comparison, Report, Verdict
from edgepack.reports import built, html, measured, searched
from edgepack.reports.built import Build
from edgepack.reports.forest import forest_picture, pairs, whole
from edgepack.reports.html import Markup, element
from edgepack.reports.searched import Search


def render(
    reports: Sequence[Report],
    build: Build | None = None,
    comparisons: Sequence[Comparison] = (),
    interleaved: bool = False,
    search: Search | None = None,
) -> str:
    """One HTML file that loads nothing and runs no script: light and dark, phone and print.

    reports: of one bundle on its boards, or of several; build: what is known of the bundle's making
    comparisons: of two of the reports each; interleaved: the processes of the two reports ran in turns, so that they are
    compared pair by pair as well; search: from which the bundle came
    Raises UsageError where matplotlib is not installed, or where there is nothing to show.
    """
    if not reports and build is None:
        raise UsageError("there is nothing to report", expected="a report of edgepack bench, or a bundle")
    parts = [
        *_head(reports, build),
        *_compared(reports, comparisons, interleaved),
        *(measured.chapter(report, number, len(reports)) for number, report in enumerate(reports, 1)),
        *([searched.chapter(search)] if search else []),
        *([built.variants(build, reports), built.rejected(build), built.bundle(build, reports)] if build else []),
    ]
    return _document(_title(reports, build), html.join(parts))


def _title(reports: Sequence[Report], build: Build | None) -> str:
    if build is not None:
        return f"{build.manifest.name} {build.manifest.version} for {build.manifest.profile.name}"
    bundles = list(dict.fromkeys(f"{report.bundle.name} {report.bundle.version}" for report in reports))
    boards = list(dict.fromkeys(report.run_context.target for report in reports))
    return f"{_few(bundles)} on {_few(boards)}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def _document(title: str, body: Markup) -> str:
    style = resources.files("edgepack.reports").joinpath("style.css").read_text("utf-8")
    footer = element("footer", "Written by edgepack. This page is one file, loads nothing and runs no script.")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'  # a browser would ask a server for one
        f"{element('title', title).text}\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body.text}\n{footer.text}\n</main>\n</body>\n</html>\n"
    )


def _head(reports: Sequence[Report], build: Build | None) -> list[Markup]:
    """The verdict before any number, then the conditions, then the headline."""
    title = _title(reports, build)
    name, _, rest = title.partition(" ")
    tiles = built.cards(build) if build else []
    lead = [built.lead(build)] if build else []
    heading = element("h1", name, " ", element("small", rest))
    match reports:
        case []:
            return [heading, *lead, html.cards(tiles)]
        case [report]:
            top = [measured.verdict(report), measured.conditions(report)]
            return [heading, *top, *lead, html.cards([*measured.cards(report), *tiles])]
        case _:
            return [heading, _verdicts(reports), *lead, html.cards(tiles), measured.overview(reports)]


def _verdicts(reports: Sequence[Report]) -> Markup:
    counts = {
        verdict: sum(r.validity.verdict == verdict for r in reports) for verdict in ("valid", "suspect", "invalid")
    }
    worst: Verdict = "invalid" if counts["invalid"] else "suspect" if counts["suspect"] else "valid"
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    names = {
        "valid": "nothing speaks against them",
        "suspect": "take them with care",
        "invalid": "do not rely on all of them",
    }
    return element("div", element("strong", f"{len(reports)} runs, {said}: {names[worst]}"), kind=f"banner {worst}",
                   attributes={"role": "note"})  # fmt: skip


def _compared(reports: Sequence[Report], comparisons: Sequence[Comparison], interleaved: bool) -> list[Markup]:
    if not comparisons:
        return []
    lines = [whole(each, each.after if len(comparisons) > 1 else "together") for each in comparisons]
    if interleaved and len(reports) == 2:
        lines = [*pairs(*reports), *lines]
    first = comparisons[0]
    befores = ", ".join(dict.fromkeys(each.before for each in comparisons))
    reasons = [reason for each in comparisons for reason in each.reasons]
    listed = (
        [element("ul", *(element("li", reason) for reason in dict.fromkeys(reasons)), kind="note")] if reasons else []
    )
    return [
        element("h2", "Against each other"),
        *(element("p", _sentence(each)) for each in comparisons),
        html.figure(
            forest_picture(lines, first.margin),
            f"Medians over those of {befores}. Bars: 95 % intervals. Shaded: slower by less than {100 * first.margin:g} %, "
            "which counts as the same.",
        ),
        *listed,
    ]


def _sentence(each: Comparison) -> str:
    low, high = each.interval
    between = f"{each.ratio:.3f} × the median, 95 % interval {low:.3f} … {high:.3f}"
    match each.verdict:
        case "faster":
            said = "is faster"
        case "slower":
            said = "is slower" if each.regression else "is slower, within the margin"
        case "same":
            said = "shows no difference"
    trust = "" if each.validity == "valid" else f" Not all of it is valid ({each.validity}):"
    return f"{trust} {each.after} {said}: {between}.".strip()
