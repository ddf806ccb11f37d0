"""The commands, each registered from the file that holds it. No framework is imported before a command needs it."""

from __future__ import annotations

import typer

from edgepack.cli import benching, boards, building, bundles, delivering, demo, profiles, targets

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
app.command("inspect")(bundles.inspect)
app.command("verify")(bundles.verify)
app.command("push")(delivering.push)
app.command("bench")(benching.bench)
app.command("compare")(benching.compare)
app.command("rollback")(delivering.rollback)
app.command("status")(delivering.status)
app.add_typer(targets.app, name="target")
app.add_typer(profiles.app, name="profile")
app.add_typer(boards.app, name="board")
app.command("demo")(demo.demo)
