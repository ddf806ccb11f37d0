"""`edgepack push`, `edgepack status` and `edgepack rollback`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

import typer

from edgepack.cli.bundles import Word, bundle_of
from edgepack.cli.output import Json, print_json, print_table, short
from edgepack.cli.targets import Inventory, Words


def push(
    bundle: Word,
    targets: Words,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Install a bundle that nobody signed.")
    ] = False,
    downgrade: Annotated[
        bool, typer.Option("--downgrade", help="Allow a lower version than the board has run.")
    ] = False,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="A variant to install beside the one that becomes active, to be measured (repeat for several; `all`).",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent and changed; change nothing.")
    ] = False,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Install and activate a bundle. A no-op says why."""
    from edgepack import catalog, delivery
    from edgepack.cli.progress import progress

    found = catalog.find_targets(targets, inventory)
    opened = bundle_of(bundle)
    beside = [each.id for each in opened.manifest.variants] if variant == ["all"] else list(variant or ())
    for id in beside:
        opened.manifest.variant(id)
    results = delivery.push(
        opened,
        found,
        allow_unsigned=allow_unsigned,
        downgrade=downgrade,
        dry_run=dry_run,
        variants=beside,
        progress=progress(),
    )
    if json:
        print_json({"targets": [result.document() for result in results]})
    else:
        rows = [
            (
                r.target,
                r.outcome,
                short(r.release),
                short(r.previous),
                f"{r.bytes_sent / 1e6:.2f}",
                f"{r.seconds:.2f}",
                r.assurance or "–",
                r.reason,
            )
            for r in results
        ]
        print_table("", ("target", "outcome", "release", "before", "MB sent", "s", "trust", "reason"), rows)
    exit_with(results)


def status(targets: Words, inventory: Inventory = None, json: Json = False) -> None:
    """What is installed, each release's files hashed on the board."""
    from edgepack import catalog, delivery
    from edgepack.cli.progress import progress

    states = delivery.status(catalog.find_targets(targets, inventory), progress())
    if json:
        print_json({"targets": [state.document() for state in states]})
    else:
        rows = []
        for state in states:
            if not state.reachable:
                rows.append((state.target, "unreachable", "", "", state.reason, ""))
            for r in state.releases:
                rows.append(
                    (
                        state.target,
                        f"{r.name} {r.version}",
                        short(r.digest),
                        "active" if r.active else "",
                        "files hold" if r.verified else "FILES DIFFER",
                        f"{r.assurance}{', expired' if r.expired else ''}",
                    )
                )
        print_table("", ("target", "release", "digest", "", "state", "trust"), rows)
    exit_with(states)


def rollback(
    targets: Words,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The release's name.")],
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Activate the release that was active before."""
    from edgepack import catalog, delivery
    from edgepack.cli.progress import progress

    results = delivery.rollback(catalog.find_targets(targets, inventory), name, progress())
    if json:
        print_json({"targets": [result.document() for result in results]})
    else:
        print_table(
            "",
            ("target", "outcome", "release", "reason"),
            [(r.target, r.outcome, short(r.release), r.reason) for r in results],
        )
    exit_with(results)


class Outcome(Protocol):
    """What a verb returns for one target: 0, or the exit code of what went wrong there, and the reason."""

    @property
    def target(self) -> str: ...
    @property
    def exit_code(self) -> int: ...
    @property
    def reason(self) -> str: ...


def exit_with(outcomes: Sequence[Outcome]) -> None:
    """Exit with the gravest code of several targets, their reasons on standard error. 0 when all went well."""
    import sys

    failed = [outcome for outcome in outcomes if outcome.exit_code]
    for outcome in failed:
        print(f"edgepack: {outcome.target}: {outcome.reason}", file=sys.stderr)
    if failed:
        raise typer.Exit(max(outcome.exit_code for outcome in failed))
