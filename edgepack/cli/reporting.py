"""`edgepack report`, and the page that `edgepack bench --html` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.output import Json, print_json

if TYPE_CHECKING:
    from edgepack.bundle import Bundle
    from edgepack.cli.reading import Measured
    from edgepack.names import VariantId
    from edgepack.pipeline import Result
    from edgepack.reports import Build
    from edgepack.variant import LayerReport

MARGIN = 0.05


def report(
    reports: Annotated[
        list[Path] | None, typer.Argument(metavar="REPORT…", help="What edgepack bench --json or --out wrote.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="The bundle that was measured: adds its variants, scores and sizes.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
    json: Json = False,
) -> None:
    """One self-contained HTML page with pictures of what was measured. Several runs of one bundle on one board are compared."""
    from edgepack.cli.bundles import bundle_of
    from edgepack.cli.reading import Measured, read_measured

    found = [read_measured(path) for path in reports or ()]
    opened = bundle_of(bundle) if bundle is not None else None
    whole = found[0] if len(found) == 1 else Measured(tuple(each for one in found for each in one.reports))
    write_page(out, whole, opened)
    if json:
        print_json({"page": str(out), "bytes": out.stat().st_size})
    else:
        print(out)


def write_page(page: Path, measured: Measured, bundle: Bundle | None) -> None:
    """Raises UsageError where matplotlib is not installed, or where there is nothing to show."""
    from edgepack import files, stats
    from edgepack.reports import packed, render

    runs = measured.reports
    comparisons = list(measured.comparisons)
    if not comparisons and len({(run.bundle.name, run.run_context.target) for run in runs}) == 1:
        comparisons = [stats.compare(runs[0], run, MARGIN) for run in runs[1:]]
    build = packed(bundle.manifest, layers_of(bundle)) if bundle is not None else None
    files.replace(page, render(runs, build, comparisons, interleaved=bool(measured.comparisons)).encode())


def write_build_pages(page: Path, results: Sequence[Result]) -> None:
    """One page a bundle: `page`, or with several `NAME-PROFILE.html` beside it. Raises UsageError without matplotlib."""
    from edgepack import files
    from edgepack.reports import render

    for result in results:
        profile = result.plan.profile.name
        own = page if len(results) == 1 else page.with_name(f"{page.stem}-{profile}{page.suffix}")
        files.replace(own, render((), build_of(result)).encode())


def build_of(result: Result) -> Build:
    """What a page shows of a build that just ended."""
    from edgepack.estimate import Estimate
    from edgepack.reports import Build

    estimates = {variant: one for variant, one in result.estimates.items() if isinstance(one, Estimate)}
    return Build(
        result.bundle.manifest, result.judged, result.baseline, result.source_bytes, layers_of(result.bundle), estimates
    )


def layers_of(bundle: Bundle) -> dict[VariantId, tuple[LayerReport, ...]]:
    """What static quantization did to each layer, as the bundle's paper says it; empty where it has none."""
    from edgepack import papers
    from edgepack.names import VariantId

    data = bundle.document("layers")
    if data is None:
        return {}
    found = papers.read_layers(data, str(bundle.path))
    return {VariantId(one.variant): one.layers for one in found if one.layers}
