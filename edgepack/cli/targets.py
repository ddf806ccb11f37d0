"""`edgepack target list|check|enrol|authorize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepack.cli.output import Json, print_json, print_table
from edgepack.cli.trusting import TrustKeys

if TYPE_CHECKING:
    from edgepack.protocol import TrustFacts
    from edgepack.target import Target

app = typer.Typer(help="Boards that can be reached.", no_args_is_help=True, rich_markup_mode=None)

Words = Annotated[
    list[str], typer.Argument(metavar="TARGET…", help="Names, or an expression over labels: 'ring=canary'.")
]
Inventory = Annotated[Path | None, typer.Option(help="An inventory file (default: targets/*.toml).")]


@app.command("list")
def list_targets(inventory: Inventory = None, json: Json = False) -> None:
    """The targets that can be named here."""
    from edgepack import catalog

    targets = catalog.load_targets(inventory)
    if json:
        print_json({"targets": [target_document(target) for target in targets]})
        return
    rows = [
        (
            t.name,
            f"{t.user + '@' if t.user else ''}{t.host}{f':{t.port}' if t.port else ''}",
            t.profile,
            " ".join(f"{k}={v}" for k, v in t.labels.items()),
            "yes" if t.enrolled else "no",
        )
        for t in targets
    ]
    print_table("", ("target", "address", "profile", "labels", "enrolled"), rows)


@app.command("check")
def check(targets: Words, inventory: Inventory = None, json: Json = False) -> None:
    """What each target says of itself now."""
    from edgepack import catalog, delivery
    from edgepack.cli.delivering import exit_with
    from edgepack.cli.progress import progress

    checks = delivery.check(catalog.find_targets(targets, inventory), progress())
    if json:
        print_json({"targets": checks})
    else:
        for found in checks:
            facts = found.facts
            if facts is None:
                print_table("", ("target", "problem"), [(found.target, found.reason)])
                continue
            model = facts.board_model or facts.cpu_model
            print_table(
                found.target,
                ("", ""),
                [
                    ("board", f"{model}{f' ({facts.board} board)' if facts.board else ''}"),
                    ("machine", f"{facts.machine}, {facts.cores} cores, {facts.memory_kb // 1024} MB"),
                    ("system", f"{facts.os}, {facts.libc} {facts.libc_version}, Python {facts.python}"),
                    ("disk", f"{facts.disk_free // 1_000_000} MB free on {facts.filesystem}"),
                    (
                        "releases",
                        ", ".join(
                            f"{r.name} {r.version}{' *' if r.active else ''} ({r.assurance})" for r in facts.releases
                        )
                        or "none",
                    ),
                    ("trusts", _trusts(facts.trust)),
                ],
            )
    exit_with(checks)


@app.command("enrol")
def enrol(
    name: Annotated[str, typer.Argument(help="The target to trust from now on.")],
    fingerprint: Annotated[
        str, typer.Option(help="The host key you expect, as SHA256:…; refused where it differs.")
    ] = "",
    trust_key: TrustKeys = None,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Pin a target's host key: what it shows now, or what you expect. With --trust-key, tell it whose bundles to take.

    It also learns which target it is, and which keys were revoked here.
    """
    from edgepack import catalog, delivery, trust

    (target,) = catalog.find_targets([name], inventory)
    keys = [key for path in trust_key or () for key in trust.read_keys(path)]
    revoked = trust.load_keyring().revoked
    key = delivery.enrol(target, fingerprint)
    catalog.pin(target, key)
    told = delivery.entrust(target, key, keys, revoked) if keys or revoked else None
    if json:
        print_json({"target": target.name, "host_key": key, "trust": told})
        return
    print(f"{target.name}: trusted from now on with host key {key}")
    if told is not None:
        print(f"{target.name}: takes bundles signed by {', '.join(told.keys) or 'nobody'}")


@app.command("authorize")
def authorize(
    name: Annotated[str, typer.Argument(help="The target.")],
    key: Annotated[Path, typer.Argument(metavar="KEY.pub", help="The public key that may deliver to it.")],
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the line for authorized_keys, and leave it to you to put it there.")
    ] = False,
    signed_agents: Annotated[
        bool,
        typer.Option(
            "--signed-agents",
            help="It may also bring the agent of another edgepack, if a key that the target trusts signed it.",
        ),
    ] = False,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Let a key push, bench and roll back on a target, and nothing else: no shell, no files, no forwarding."""
    from edgepack import catalog, delivery, sshsig
    from edgepack.errors import UsageError

    if not key.is_file():
        raise UsageError(
            f"{key}: no such file", expected="an OpenSSH public key", advice="ssh-keygen -t ed25519 makes one"
        )
    line = sshsig.public_line(key.read_text(errors="replace"), str(key))
    (target,) = catalog.find_targets([name], inventory)
    done = delivery.authorize(target, line, write=not print_only, signed_agents=signed_agents)
    if json:
        print_json({"target": target.name, "line": done.line, "written": done.written})
    elif done.written:
        print(f"{target.name}: {key} opens deliveries there, and nothing else")
    else:
        print(done.line)


def _trusts(trust: TrustFacts) -> str:
    """Whose bundles a board takes, in one line."""
    if not trust.required:
        return "nobody yet: it checks digests alone (edgepack target enrol NAME --trust-key PUB)"
    where = "kept by its administrator" if trust.system else "enrolled"
    loose = "; its policy lets unsigned bundles in" if trust.allow_unsigned else ""
    return f"{', '.join(trust.keys) or 'nobody'} ({where}{loose})"


def target_document(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "host": target.host,
        "port": target.port or 22,
        "user": target.user,
        "profile": target.profile,
        "labels": target.labels,
        "enrolled": target.enrolled,
    }
