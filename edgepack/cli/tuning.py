"""`edgepack tune`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepack.cli.building import (
    Calibration,
    Epochs,
    Evaluation,
    Inputs,
    Measuring,
    Metric,
    Name,
    Profiles,
    Seed,
    Source,
    Training,
    Unsigned,
    Version,
    Weights,
    bundle_document,
    flags_of,
    print_result,
    scales,
)
from edgepack.cli.output import Json, print_json, print_table
from edgepack.cli.targets import Inventory
from edgepack.cli.trusting import Downgrade, Expires, For, SignKey, seal

if TYPE_CHECKING:
    from edgepack.tuning import Outcome, Tuned

_UNITS = {"s": 1, "m": 60, "h": 3600}


def tune(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder that the bundle is written to.")] = Path(),
    profile: Profiles = None,
    budget: Annotated[
        str, typer.Option(help="No trial begins after so long: 90s, 10m, 2h. Scoring and packing come after it.")
    ] = "10m",
    trials: Annotated[
        int | None, typer.Option(min=1, help="How many trials the study is to have in all, of every worker.")
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="A database that several machines share: postgresql://USER@HOST/DATABASE, the password in ~/.pgpass or "
            "PGPASSWORD (default: a file below $EDGEPACK_HOME).",
        ),
    ] = "",
    takeover: Annotated[
        int, typer.Option(min=2, help="Seconds without a sign of life after which a worker is taken for dead.")
    ] = 60,
    report: Annotated[Path | None, typer.Option(help="A page with pictures to write: one HTML file.")] = None,
    calibration: Calibration = None,
    evaluation: Evaluation = None,
    training: Training = None,
    metric: Metric = None,
    name: Name = None,
    version: Version = None,
    weights: Weights = None,
    inputs: Inputs = None,
    epochs: Epochs = None,
    seed: Seed = None,
    sign_key: SignKey = None,
    expires: Expires = "",
    targets: For = None,
    allows_downgrade_from: Downgrade = "",
    target: Measuring = None,
    allow_unsigned: Unsigned = False,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Search what a profile allows for the best of score, size and latency, and pack what stands up on samples it never saw.

    The same command again goes on where it was; run it several times at once and they share the work.
    """
    from edgepack import exchange, files, pipeline, tuning
    from edgepack.cli.progress import progress

    if report is not None:
        require_pictures()
        require_place(report.parent)
    require_place(out)
    limits = tuning.Limits(seconds=seconds(budget), trials=trials, takeover=takeover)
    sealing = seal(sign_key, expires, targets, allows_downgrade_from)
    talk = progress()
    flags = flags_of(calibration, evaluation, training, metric, name, version, weights, inputs, epochs, seed)
    wanted = pipeline.request(exchange.source_of(source, talk), profile or (), flags)
    found = tuning.tune(
        wanted,
        out,
        limits,
        talk,
        storage=storage,
        seal=sealing.put_on if sealing else pipeline.bare,
        scales=scales(target, inventory, wanted, allow_unsigned, talk, for_search=True),
    )
    if report is not None:
        files.replace(report, page_of(found).encode())
    if json:
        print_json(tuned_document(found))
    else:
        print_tuned(found)


def seconds(text: str) -> float:
    """Of a duration as people write it. Raises UsageError."""
    from edgepack.errors import UsageError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if not found or not float(found[1]):
        raise UsageError(f"--budget {text!r} is no duration", expected="seconds, minutes or hours: 90s, 10m, 2h")
    return float(found[1]) * _UNITS[found[2]]


def require_pictures() -> None:
    """Before a search of hours, not after it. Raises UsageError."""
    import importlib.util

    from edgepack.errors import missing_extra

    if importlib.util.find_spec("matplotlib") is None:
        raise missing_extra("matplotlib", "report", "a report with pictures")


def require_place(folder: Path) -> None:
    """A folder that can be written to, made where there is none: before a search of hours too. Raises OSError naming it."""
    import tempfile

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def page_of(found: Tuned) -> str:
    """The search and its bundle as one HTML page."""
    from edgepack.cli.reporting import build_of
    from edgepack.reports import Search, Trial, render
    from edgepack.tuning import describe

    result = found.result
    manifest = result.bundle.manifest
    search = Search(
        trials=tuple(
            Trial(one.number, describe(one.built.recipe), one.built, one.number in found.front)
            for one in found.outcomes
        ),
        recipes=found.recipes,
        searched_on=found.searched_on,
        held_out=found.held_out,
        metric=manifest.metric,
        baseline=found.baseline,
        measured=found.measured,
    )
    return render((), build_of(result), search=search)


def tuned_document(found: Tuned) -> dict[str, Any]:
    """A search as `tune --json` prints it."""
    return {
        "study": found.study,
        "storage": found.storage,
        "recipes": found.recipes,
        "samples": {"search": found.searched_on, "held_out": found.held_out},
        "cost": "latency_ms" if found.measured else "expected",
        "trials": [_trial_document(one, found) for one in found.outcomes],
        "unusable": found.unusable,
        "bundle": bundle_document(found.result),
    }


def _trial_document(one: Outcome, found: Tuned) -> dict[str, Any]:
    built = one.built
    return {
        "number": one.number,
        "variant": built.id,
        "recipe": built.recipe,
        "key": one.key,
        "score": built.score,
        "drop": built.drop,
        "sqnr_db": built.parity.sqnr_db,
        "size_bytes": built.size_bytes,
        "latency_ms": built.latency_ms,
        "front": one.number in found.front,
        "seconds": one.seconds,
        "worker": one.worker,
    }


def print_tuned(found: Tuned) -> None:
    from edgepack.tuning import describe

    rows = []
    for one in found.outcomes:
        if one.number in found.front:
            built = one.built
            score = "–" if built.score is None else f"{built.score:.4f}"
            latency = [f"{built.latency_ms:.3f}"] if built.latency_ms is not None else []
            row = (str(one.number), describe(built.recipe), f"{built.size_bytes / 1e3:.1f}", score)
            rows.append((*row, f"{built.parity.sqnr_db:.1f}", *latency, f"{one.seconds:.1f}"))
    title = f"the front of {len(found.outcomes)} trials over {found.recipes} recipes"
    seen = f", scored on {found.searched_on} samples that the search saw" if found.searched_on else ""
    columns = ("trial", "recipe", "KB", "score", "SQNR dB", *(["p50 ms"] if found.measured else []), "took s")
    print(f"{title}{seen}")
    print_table("", columns, rows)
    held = f"scored on {found.held_out} samples that the search never saw" if found.held_out else "nothing was scored"
    print(f"\nThe bundle, {held}:\n")
    print_result(found.result)
