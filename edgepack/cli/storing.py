"""`edgepack add`, `list`, `show`, `history` and `gc`: the local store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.bundles import Word, bundle_of, inspect
from edgepack.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from edgepack.store import Entry, Release

Name = Annotated[str, typer.Argument(metavar="NAME", help="A bundle's name.")]


def add(bundle: Word, json: Json = False) -> None:
    """Keep a bundle in the local store; `build` and `fetch` do so by themselves."""
    from edgepack import store

    opened = bundle_of(bundle)
    entry = store.add(opened, f"file {opened.path}")
    if json:
        print_json(entry.document())
    else:
        print(f"{entry.name}@{entry.version}/{entry.profile}  {entry.digest}")


def list_(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only bundles of this name.")] = "", json: Json = False
) -> None:
    """The bundles of the local store."""
    from edgepack import store

    found = store.entries(name)
    if json:
        print_json({"bundles": [entry.document() for entry in found]})
        return
    print_table("", _COLUMNS, [_row(entry) for entry in found])


_COLUMNS = ("name", "version", "profile", "MB", "digest", "", "from")


def _row(entry: Entry) -> tuple[str, ...]:
    signed = "signed" if entry.signed else "unsigned"
    size = f"{entry.size / 1e6:.2f}"
    return entry.name, entry.version, entry.profile, size, entry.digest[:19], signed, entry.origin


def show(
    word: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION[/PROFILE]]", help="The highest version if none is named.")
    ],
    json: Json = False,
) -> None:
    """One bundle of the local store: what it is, what it needs to run, which runtime locks it depends on."""
    from edgepack import references, store
    from edgepack.bundle import open_bundle
    from edgepack.errors import UsageError

    found = references.parse(word if "@" in word or ":" in word else f"{word}@")
    if not isinstance(found, references.InStore):
        raise UsageError(f"{word!r} is none of the store's", expected="NAME or NAME@VERSION", advice="edgepack inspect")
    entry = store.find(found.name, found.version, found.profile, found.digest)
    if json:
        opened = open_bundle(entry.path)
        print_json({**entry.document(), "locks": opened.locks, "manifest": opened.manifest})
        return
    inspect(str(entry.path))
    print_table("\nin the store", _COLUMNS, [_row(entry)])


def history(name: Name, json: Json = False) -> None:
    """Every release of a name: scores, sizes, sources, runtime locks, and what each changed."""
    from edgepack import store
    from edgepack.errors import InputError

    releases = store.history(name)
    if not releases:
        raise InputError(f"the store holds no {name}", advice="edgepack list")
    if json:
        print_json({"name": name, "releases": [release.document() for release in releases]})
        return
    columns = ("version", "profile", "digest", "source", "default", "score", "drop", "KB", "locks", "changed")
    print_table(name, columns, [_release(release) for release in releases])


def _release(one: Release) -> tuple[str, ...]:
    locks = "; ".join(f"{runtime} {version} py{python} {machine}" for runtime, version, python, machine, _ in one.locks)
    return (
        one.entry.version,
        one.entry.profile,
        one.entry.digest[7:19],
        f"{one.source_format} {one.source[7:19]}",
        one.default.removeprefix(f"{one.entry.name}.{one.entry.profile}."),
        "–" if one.score is None else f"{one.score:.4f}",
        "–" if one.drop is None else f"{one.drop:+.4f}",
        f"{one.size / 1e3:.1f}",
        locks or "–",
        "; ".join(one.changed) or "first release",
    )


def gc(
    keep: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="First forget all but the N highest versions of each name and profile."),
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    json: Json = False,
) -> None:
    """Throw away what no bundle of the local store holds any more. Safe beside other commands."""
    from edgepack import store

    freed = store.gc(keep, dry_run)
    if json:
        bundles = [entry.document() for entry in freed.bundles]
        print_json({"dry_run": dry_run, "bundles": bundles, "blobs": freed.blobs, "bytes": freed.bytes})
        return
    if freed.bundles:
        print_table(
            "forgotten" if not dry_run else "would be forgotten", _COLUMNS, [_row(one) for one in freed.bundles]
        )
    print(f"{'would free' if dry_run else 'freed'} {freed.blobs} blobs, {freed.bytes / 1e6:.2f} MB")
