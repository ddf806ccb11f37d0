"""The commands, each registered from the file that holds it. No framework is imported before a command needs it."""

from __future__ import annotations

import typer

from edgepack.cli import (
    agents,
    benching,
    boards,
    building,
    bundles,
    comparing,
    delivering,
    demo,
    exchanging,
    exporting,
    papers,
    profiles,
    reporting,
    storing,
    targets,
    trusting,
    tuning,
)

app = typer.Typer(
    help="From a trained model to a measured bundle that runs on a fleet of boards.",
    epilog="Any command takes --debug: tracebacks, and what frameworks printed.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command("plan")(building.plan)
app.command("build")(building.build)
app.command("tune")(tuning.tune)
app.command("inspect")(bundles.inspect)
app.command("sign")(trusting.sign)
app.command("verify")(trusting.verify)
app.command("push")(delivering.push)
app.command("bench")(benching.bench)
app.command("compare")(comparing.compare)
app.command("bench-history")(comparing.bench_history)
app.command("export")(exporting.export)
app.command("report")(reporting.report)
app.command("rollback")(delivering.rollback)
app.command("status")(delivering.status)
app.command("card")(papers.card)
app.command("sbom")(papers.sbom)
app.command("provenance")(papers.provenance)
app.command("publish")(exchanging.publish)
app.command("fetch")(exchanging.fetch)
app.command("add")(storing.add)
app.command("list")(storing.list_)
app.command("show")(storing.show)
app.command("history")(storing.history)
app.command("gc")(storing.gc)
app.add_typer(targets.app, name="target")
app.add_typer(trusting.app, name="trust")
app.add_typer(agents.app, name="agent")
app.add_typer(profiles.app, name="profile")
app.add_typer(boards.app, name="board")
app.command("demo")(demo.demo)
