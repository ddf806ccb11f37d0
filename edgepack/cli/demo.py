"""`edgepack demo`: the whole chain on scikit-learn's digits, from training to a report with pictures."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgepack.pipeline import Result
    from edgepack.ports import Progress
    from edgepack.report import Report
    from edgepack.target import Target

BOARD = "demo"
PROJECT = Path(__file__).parent.parent / "demo" / "digits"


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the project, the bundles and the report go.")] = Path(
        "demo-output"
    ),
    board: Annotated[
        str, typer.Option(help="emulated, loopback, or auto: emulated where this machine can host it.")
    ] = "auto",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the board running.")] = False,
) -> None:
    """Train, prune, quantize, pack, push over SSH, benchmark, report: on real scans, in minutes."""
    from edgepack import boards
    from edgepack.cli.progress import progress
    from edgepack.errors import UsageError, missing_extra

    talk = progress()
    if board not in ("auto", "emulated", "loopback"):
        raise UsageError(f"unknown board {board!r}", expected="auto, emulated or loopback")
    for package in ("torch", "litert_torch", "sklearn", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "demo", "the demo")
    obstacle = boards.can_host_emulated() if board == "auto" else None
    kind = "loopback" if board == "loopback" or obstacle else "emulated"
    talk.note(_announce(kind, obstacle))
    results = _build(_train(out, talk), kind, out, talk)
    (target,) = boards.up(BOARD, kind, results[-1].plan.profile.name, 1, talk)  # type: ignore[arg-type]  # one of the two kinds
    try:
        reports = _deliver(results[-1], target, talk)
    finally:
        if not keep:
            boards.down(BOARD, talk)
    page = _write_report(results[-1], reports, out)
    print(f"report: {page.absolute()}")


def _announce(kind: str, obstacle: str | None) -> str:
    if kind == "emulated":
        return (
            "board: an emulated Raspberry Pi 4, a real arm64 Debian behind a real sshd (its latencies are no device's)"
        )
    why = f": no emulated board here: {obstacle}" if obstacle else ""
    return f"board: loopback, a real SSH server on this machine{why}"


def _train(out: Path, progress: Progress) -> Path:
    """The demo project with trained weights. Trained once; a second run finds them."""
    from edgepack.runtimes import foreign

    project = out / "digits"
    shutil.copytree(
        PROJECT,
        project,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    weights = project / "digits.pt"
    if not weights.exists():
        with progress.step("train a small convolutional net on scikit-learn's digits"):
            fresh = weights.with_suffix(".fresh")
            foreign.set_environment()
            subprocess.run([sys.executable, "train.py", fresh.name], cwd=project, check=True)
            fresh.replace(weights)
    return project


def _build(project: Path, kind: str, out: Path, progress: Progress) -> tuple[Result, ...]:
    """Bundles for rpi4, and last the one for the board that the demo runs."""
    from edgepack import boards, pipeline
    from edgepack.cli.building import print_result

    profiles = ["rpi4"] if kind == "emulated" else ["rpi4", boards.default_profile("loopback")]
    results = pipeline.build(pipeline.request(str(project), profiles, {}), out, progress)
    for result in results:
        print_result(result)
    return results


def _deliver(result: Result, target: Target, progress: Progress) -> tuple[Report, ...]:
    """Push, then measure what the board activated."""
    from edgepack import delivery, measure
    from edgepack.cli.delivering import exit_with
    from edgepack.cli.live import print_reports, watching
    from edgepack.report import BenchProtocol

    pushed = delivery.push(
        result.bundle, (target,), allow_unsigned=True, downgrade=True, dry_run=False, progress=progress
    )
    for each in pushed:
        progress.note(f"{each.target}: {each.reason}")
    exit_with(pushed)
    protocol = BenchProtocol()
    with watching((target,)) as (watch, listener):
        reports = measure.bench(result.bundle, (target,), protocol, result.default, watch, listener)
    print_reports(reports)
    return reports


def _write_report(result: Result, reports: tuple[Report, ...], out: Path) -> Path:
    from edgepack import files
    from edgepack.cli.reporting import build_of
    from edgepack.reports import render

    page = out / "report.html"
    files.replace(page, render(reports, build_of(result)).encode())
    return page
