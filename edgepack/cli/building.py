"""`edgepack plan` and `edgepack build`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, assert_never

import typer

from edgepack.cli.output import Json, print_json, print_table
from edgepack.cli.targets import Inventory
from edgepack.cli.trusting import Downgrade, Expires, For, SignKey, seal

if TYPE_CHECKING:
    from edgepack.estimate import Estimate, NoEstimate
    from edgepack.pipeline import Estimates, HostTime, Request, Result, Weigh
    from edgepack.ports import Progress
    from edgepack.variant import Judged

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A model file, a SavedModel folder, file.py:callable, a folder with an edgepack.toml, or HOST/REPOSITORY:TAG.",
    ),
]
Profiles = Annotated[list[str] | None, typer.Option("--profile", "-p", help="A device profile (repeat for several).")]
Calibration = Annotated[
    str | None, typer.Option(help="Samples to find ranges with: an .npz with x, or file.py:callable.")
]
Evaluation = Annotated[str | None, typer.Option(help="Labelled samples: an .npz with x and y, or file.py:callable.")]
Training = Annotated[
    str | None, typer.Option(help="Samples to recover with after pruning: an .npz, or file.py:callable.")
]
Metric = Annotated[str | None, typer.Option(help="top1 top5 auc mae mse f1 psnr cosine, or file.py:callable.")]
Name = Annotated[str | None, typer.Option(help="The bundle's name (default: the source's).")]
Version = Annotated[str | None, typer.Option(help="The bundle's semantic version.")]
Weights = Annotated[str | None, typer.Option(help="A state_dict to load into the module.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", metavar="NAME[:DTYPE]=1,3,224,224", help="An input's shape, where the model leaves it open."
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs of recovery after pruning.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every random choice.")]
Measuring = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help="Boards that measure the variants before one is selected: names with commas between, or an expression.",
    ),
]
Unsigned = Annotated[
    bool, typer.Option("--allow-unsigned", help="Put unsigned variants on the boards that measure, for that long.")
]


def plan(
    source: Source,
    profile: Profiles = None,
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
    json: Json = False,
) -> None:
    """What would be built, each value with its origin. Nothing is written."""
    from edgepack import exchange, pipeline
    from edgepack.cli.progress import progress

    flags = flags_of(calibration, evaluation, training, metric, name, version, weights, inputs, epochs, seed)
    plans = pipeline.plan(pipeline.request(exchange.source_of(source, progress()), profile or (), flags), progress())
    if json:
        print_json({"plans": [_plan_document(each) for each in plans]})
        return
    for each in plans:
        rows = [(origin.key, str(origin.value), origin.origin) for origin in each.values]
        styles = ["dim" if origin.origin == "default" else "" for origin in each.values]
        print_table(f"{each.name} {each.version} for {each.profile.name}", ("key", "value", "from"), rows, styles)
        variants = [
            (each.id_of(recipe), " → ".join(type(step).__name__.lower() for step in recipe)) for recipe in each.recipes
        ]
        print_table(
            "\nvariants", ("variant", "recipe"), [*variants, *((f"no {s.what}", s.reason) for s in each.skipped)]
        )


def build(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder that bundles are written to.")],
    profile: Profiles = None,
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
    html: Annotated[
        Path | None, typer.Option(help="A page with pictures; with several profiles one each, NAME-PROFILE.html.")
    ] = None,
    json: Json = False,
) -> None:
    """Build, verify, score, measure where asked, select, pack and sign: one bundle a profile."""
    from edgepack import exchange, pipeline
    from edgepack.cli.progress import progress
    from edgepack.cli.reporting import write_build_pages

    sealing = seal(sign_key, expires, targets, allows_downgrade_from)
    flags = flags_of(calibration, evaluation, training, metric, name, version, weights, inputs, epochs, seed)
    talk = progress()
    wanted = pipeline.request(exchange.source_of(source, talk), profile or (), flags)
    boards = scales(target, inventory, wanted, allow_unsigned, talk)
    results = pipeline.build(wanted, out, talk, sealing.put_on if sealing else pipeline.bare, boards)
    if not pipeline.leads():
        return
    if html is not None:
        write_build_pages(html, results)
    if json:
        print_json({"bundles": [bundle_document(result) for result in results]})
        return
    for result in results:
        print_result(result)


def scales(
    words: list[str] | None,
    inventory: Path | None,
    wanted: Request,
    allow_unsigned: bool,
    progress: Progress,
    *,
    for_search: bool = False,
) -> Weigh | None:
    """The boards that were named, each asked once before any work begins. None where none was.

    for_search: their figures are to lead a search, which an emulated board's cannot
    """
    from edgepack.errors import UsageError

    named = [name.strip() for word in words or () for name in word.split(",")]
    if not named:
        if allow_unsigned or inventory:
            raise UsageError(
                "--allow-unsigned and --inventory say how boards measure", expected="--target TARGET with them"
            )
        return None
    from edgepack import catalog
    from edgepack.proving import Boards
    from edgepack.report import BenchProtocol

    found = tuple(catalog.find_targets(named, inventory))
    emulated = [target.name for target in found if target.board in ("emulated", "machine")]
    if for_search and emulated:
        raise UsageError(
            f"{', '.join(emulated)}: an emulated board's latencies say nothing of a device, and cannot lead a search",
            expected="a board of its own kind, or no --target: the search then goes by the expected cost",
        )
    boards = Boards(found, BenchProtocol(), allow_unsigned, progress)
    boards.check(wanted.profiles)
    return boards.weigh


def flags_of(
    calibration: str | None,
    evaluation: str | None,
    training: str | None,
    metric: str | None,
    name: str | None,
    version: str | None,
    weights: str | None,
    inputs: list[str] | None,
    epochs: int | None,
    seed: int | None,
) -> dict[str, Any]:
    """The flags that were given, as the tables that an edgepack.toml would hold."""
    tables: dict[str, dict[str, Any]] = {
        "": {"name": name, "version": version},
        "model": {"weights": weights, "inputs": [_parse_input(text) for text in inputs] if inputs else None},
        "data": {"calibration": calibration, "evaluation": evaluation, "training": training, "metric": metric},
        "build": {"epochs": epochs, "seed": seed},
    }
    given = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in tables.items()
    }
    return {**given.pop(""), **{section: values for section, values in given.items() if values}}


def _parse_input(text: str) -> dict[str, Any]:
    from edgepack.errors import UsageError

    head, _, sizes = text.rpartition("=")
    name, _, dtype = head.partition(":")
    if not name or not all(size.strip().isdigit() for size in sizes.split(",")):
        raise UsageError(f"--input {text!r} cannot be read", expected="NAME=1,3,224,224 or NAME:int32=1,16")
    return {"name": name, "shape": [int(size) for size in sizes.split(",")], "dtype": dtype or "float32"}


def _plan_document(plan: Any) -> dict[str, Any]:
    return {
        "name": plan.name,
        "version": plan.version,
        "profile": plan.profile.name,
        "digest": plan.digest(),
        "model": plan.model,
        "variants": [{"id": plan.id_of(recipe), "recipe": recipe} for recipe in plan.recipes],
        "skipped": plan.skipped,
        "values": plan.values,
    }


def bundle_document(result: Result) -> dict[str, Any]:
    """One bundle as `build --json` prints it."""
    return {
        "path": str(result.bundle.path),
        "digest": result.bundle.digest,
        "name": result.plan.name,
        "version": result.plan.version,
        "profile": result.plan.profile.name,
        "default": result.default,
        "baseline": {"score": result.baseline, "size_bytes": result.source_bytes},
        "variants": [_variant_document(judged, result.host_times, result.estimates) for judged in result.judged],
    }


def _variant_document(
    judged: Judged, times: Sequence[HostTime] = (), estimates: Estimates | None = None
) -> dict[str, Any]:
    from edgepack.variant import Built

    variant = judged.built
    built = variant if isinstance(variant, Built) else None
    parity = variant.parity
    return {
        "id": variant.id,
        "format": variant.format,
        "precision": variant.precision,
        "sparsity": variant.sparsity,
        "size_bytes": built.size_bytes if built else None,
        "score": built.score if built else None,
        "drop": built.drop if built else None,
        "parity": {"max_abs": parity.max_abs, "sqnr_db": parity.sqnr_db} if parity else None,
        "latency_ms": built.latency_ms if built else None,
        "p90_ms": built.p90_ms if built else None,
        "memory_mb": built.memory_mb if built else None,
        "measured": built.measured if built else (),
        **_estimate_document((estimates or {}).get(variant.id)),
        "parameters": built.parameters if built else None,
        "macs": built.macs if built else None,
        "host": next(
            ({"ms": t.milliseconds, "ratio": t.ratio, "to": t.whole} for t in times if t.id == variant.id), None
        ),
        "status": judged.status,
        "reason": judged.reason,
    }


def _estimate_document(found: Estimate | NoEstimate | None) -> dict[str, Any]:
    """Fields of their own, so that nobody takes them for `latency_ms`, which stays null where nothing was measured."""
    from edgepack.estimate import Estimate, NoEstimate

    match found:
        case Estimate():
            interval: Any = (found.low_ms, found.high_ms)
            return {"estimate_ms": interval, "estimate_coverage": found.coverage, "estimate_basis": found.basis}
        case NoEstimate():
            return {"estimate_ms": None, "estimate_coverage": None, "estimate_basis": found.reason}
        case None:
            return {"estimate_ms": None, "estimate_coverage": None, "estimate_basis": None}
        case _:
            assert_never(found)


def print_result(result: Result) -> None:
    from edgepack.estimate import Estimate

    baseline = "not scored" if result.baseline is None else f"{result.baseline:.4f}"
    measured = any(document["measured"] for document in map(_variant_document, result.judged))
    guessed = any(isinstance(found, Estimate) for found in result.estimates.values())
    rows = []
    for judged in result.judged:
        document = _variant_document(judged)
        size = f"{document['size_bytes'] / 1e3:.1f}" if document["size_bytes"] else "–"
        score = f"{document['score']:.4f}" if document["score"] is not None else "–"
        sqnr = f"{document['parity']['sqnr_db']:.1f}" if document["parity"] else "–"
        latency = [_latency(judged)] if measured else []
        estimate = _estimate_cells(result.estimates.get(judged.built.id)) if guessed else []
        rows.append((document["id"], size, score, sqnr, *latency, *estimate, judged.status, judged.reason))
    styles = [{"selected": "green", "kept": "", "rejected": "dim"}[judged.status] for judged in result.judged]
    title = f"{result.bundle.path}  ({result.bundle.digest[:19]}…, source scores {baseline})"
    columns = (
        "variant",
        "KB",
        "score",
        "SQNR dB",
        *(["p50 ms"] if measured else []),
        *(["estimate ms", "holds"] if guessed else []),
        "status",
        "reason",
    )
    print_table(title, columns, rows, styles)


def _estimate_cells(found: Estimate | NoEstimate | None) -> list[str]:
    from edgepack.estimate import Estimate

    if not isinstance(found, Estimate):
        return ["–", "–"]
    return [f"{found.low_ms:.2g} – {found.high_ms:.2g}", f"{found.coverage:.0%}, {found.basis}"]


def _latency(judged: Judged) -> str:
    """Measured milliseconds, and whose: a figure of an emulated board is no device's."""
    from edgepack.variant import Built

    built = judged.built
    if not isinstance(built, Built) or not built.measured:
        return "–"
    slowest = max(built.measured, key=lambda one: one.p50_ms)
    return f"{slowest.p50_ms:.3f}" + (f" ({slowest.stand_in})" if slowest.stand_in else "")
