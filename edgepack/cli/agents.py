"""`edgepack agent show|sign|add`: the one file that runs on boards, and who vouches for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.output import Json, print_json, print_table

app = typer.Typer(help="The file that runs on boards.", no_args_is_help=True, rich_markup_mode=None)


@app.command("show")
def show(json: Json = False) -> None:
    """The agent that boards are given, and who signed it."""
    from edgepack import remote, signing

    own = remote.own_endorsement()
    key, issued = "", ""
    if own is not None:
        key = signing.check_endorsement(own.encode(), "the agent's signature")[1]
        issued = remote.read_endorsement(own.encode(), "the agent's signature")[1].issued
    size = len(remote.agent_pyz())
    if json:
        print_json({"digest": remote.agent_digest(), "size": size, "key": key, "issued": issued})
        return
    signed = f"by {key} at {issued}" if key else "by nobody: boards with a restricted key may want that"
    rows = [("digest", remote.agent_digest()), ("size", f"{size / 1e3:.0f} KB"), ("signed", signed)]
    print_table("", ("", ""), rows)


@app.command("sign")
def sign(
    sign_key: Annotated[Path, typer.Option(help="An OpenSSH private key (Ed25519), or a .pub file: the agent's.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A file for the hosts that deliver (default: kept here).")
    ] = None,
    json: Json = False,
) -> None:
    """Vouch for this edgepack's agent, so that a restricted key may bring it to boards that trust your key."""
    from edgepack import files, remote, signing
    from edgepack.cli.trusting import seal

    sealing = seal(sign_key, "", None, "")
    assert sealing is not None
    made = signing.endorse_agent(sealing.signer)
    if out is None:
        remote.keep_endorsement(made)
    else:
        files.replace(out, made.encode())
    key = sealing.signer.key.fingerprint
    if json:
        print_json({"digest": remote.agent_digest(), "key": key, "path": str(out) if out else None})
        return
    print(f"agent {remote.agent_digest()[7:23]}…: signed by {key}{f', in {out}' if out else ''}")
    if out:
        print(f"on each host that delivers: edgepack agent add {out.name}", file=sys.stderr)


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `edgepack agent sign -o FILE` wrote.")],
    json: Json = False,
) -> None:
    """Keep a signature of this edgepack's agent: `push` shows it to the boards that want one."""
    from edgepack import remote, signing
    from edgepack.errors import InputError

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read: {error.strerror}", expected="what edgepack agent sign -o FILE wrote"
        ) from None
    found, key = signing.check_endorsement(data, str(file))
    remote.keep_endorsement(found)
    if json:
        print_json({"digest": remote.agent_digest(), "key": key})
        return
    print(f"agent {remote.agent_digest()[7:23]}…: signed by {key}")
