"""`edgepack board up|down|list`: boards without hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from edgepack.cli.output import Json, print_json, print_table

app = typer.Typer(help="Boards without hardware.", no_args_is_help=True, rich_markup_mode=None)


@app.command("up")
def up(
    name: Annotated[str, typer.Argument(help="The board's name; any command can then name it as a target.")],
    kind: Annotated[
        str,
        typer.Option(
            help="loopback (a real SSH server, anywhere), emulated (a real arm64 system; Linux, root) "
            "or machine (the same with a kernel and a disk of its own, slower)."
        ),
    ] = "loopback",
    profile: Annotated[str, typer.Option(help="What the board stands in for (default: by kind).")] = "",
    count: Annotated[int, typer.Option(min=1, help="Start NAME-1 … NAME-N.")] = 1,
    json: Json = False,
) -> None:
    """Start boards, host keys already enrolled. A running board is left as it is."""
    from edgepack import boards, catalog
    from edgepack.cli.progress import progress
    from edgepack.cli.targets import target_document
    from edgepack.errors import UsageError
    from edgepack.names import check_name
    from edgepack.target import BoardKind

    check_name(name, "board")
    if kind not in get_args(BoardKind):
        raise UsageError(f"unknown kind {kind!r}", expected=" or ".join(get_args(BoardKind)))
    if profile:
        catalog.load_profiles([profile])
        # A profile of the user's own is known by its file, which must be found from any folder.
        profile = str(Path(profile).absolute()) if profile.endswith(".toml") else profile
    targets = boards.up(name, kind, profile, count, progress())  # type: ignore[arg-type]  # checked above
    if json:
        print_json({"targets": [target_document(target) for target in targets]})
        return
    for target in targets:
        print(f"{target.name}: {kind} board on {target.host}:{target.port}, profile {target.profile}")


@app.command("down")
def down(
    name: Annotated[str, typer.Argument(help="A board, or the name its count was started with.")], json: Json = False
) -> None:
    """End boards and all their processes."""
    from edgepack import boards
    from edgepack.cli.progress import progress

    ended = boards.down(name, progress())
    if json:
        print_json({"ended": ended})
    elif ended:
        print(f"ended: {', '.join(ended)}")


@app.command("list")
def list_boards(json: Json = False) -> None:
    """The boards of this EDGEPACK_HOME."""
    from edgepack import boards

    states = boards.listing()
    if json:
        print_json({"boards": states})
        return
    rows = [
        (s.name, s.kind, s.profile, f"{s.host}:{s.port}", "running" if s.running else "not running") for s in states
    ]
    print_table("", ("board", "kind", "profile", "address", "state"), rows)
