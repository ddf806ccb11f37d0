"""`edgepack profile list|show`."""

from __future__ import annotations

from typing import Annotated

import typer

from edgepack.cli.output import Json, print_json, print_table

app = typer.Typer(help="Device profiles.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_profiles(json: Json = False) -> None:
    """The profiles that are shipped."""
    from edgepack import catalog

    profiles = catalog.load_profiles()
    if json:
        print_json({"profiles": [{"name": each.name, "title": each.profile.title} for each in profiles]})
        return
    rows = [
        (p.name, p.profile.title, p.profile.device.cpu, ", ".join(p.profile.device.isa), ", ".join(p.profile.runtimes))
        for p in profiles
    ]
    print_table("", ("profile", "title", "cpu", "instruction sets", "runtimes"), rows)


@app.command("show")
def show_profile(
    name: Annotated[str, typer.Argument(help="A shipped profile, or a .toml file.")], json: Json = False
) -> None:
    """Each value of a profile with the file that set it."""
    from edgepack import catalog

    (resolved,) = catalog.load_profiles([name])
    if json:
        print_json({"name": resolved.name, "profile": resolved.profile, "origins": resolved.origins})
        return
    rows = [(origin.key, str(origin.value), origin.origin) for origin in resolved.origins]
    print_table(
        "", ("key", "value", "from"), rows, ["dim" if origin.origin == "default" else "" for origin in resolved.origins]
    )
