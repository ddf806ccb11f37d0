"""What the user asked for: flags over edgepack.toml over defaults, each value with its origin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import structs, to_builtins

from edgepack import catalog, documents
from edgepack.documents import Origin, Tables
from edgepack.errors import UsageError
from edgepack.names import check_name, check_version, suggest_name
from edgepack.pipeline.prepare import Request
from edgepack.project import Project


def request(source: str, profiles: Sequence[str], flags: Tables) -> Request:
    """Resolve a source (a file, file.py:callable, or a folder with an edgepack.toml) and the flags beside it.

    flags: tables as an edgepack.toml would hold them; their paths are relative to the working folder.
    Raises UsageError where no profile is named or one is unknown, InputError for a wrong document, name or version.
    """
    file = Path(source) / "edgepack.toml"
    own = file if file.is_file() else None
    flags = _absolute(flags) if own else documents.merge(flags, {"model": {"source": source}})
    tables, layers = catalog.resolve_project(own, flags)
    project = documents.convert(tables, Project, str(own) if own else "the flags")
    origins = tuple(documents.origins(to_builtins(project), layers))
    wanted = tuple(profiles) or project.build.profiles
    if not wanted:
        raise UsageError(
            "no profile named",
            expected="-p PROFILE, or [build] profiles in edgepack.toml",
            advice="edgepack profile list",
        )
    if not project.name:
        project, origins = _named_after_source(project, origins)
    check_name(project.name)
    check_version(project.version)
    return Request(project, file.parent if own else Path(), origins, catalog.load_profiles(wanted))


def _named_after_source(project: Project, origins: tuple[Origin, ...]) -> tuple[Project, tuple[Origin, ...]]:
    name = suggest_name(Path(project.model.source.partition(":")[0]).stem)
    changed = tuple(Origin(o.key, name, "the source's name") if o.key == "name" else o for o in origins)
    return structs.replace(project, name=name), changed


def _absolute(flags: Tables) -> Tables:
    """Paths in flags are relative to the working folder, those in an edgepack.toml to its own."""
    data = {key: _absolute_path(key, value) for key, value in flags.get("data", {}).items()}
    model = {key: _absolute_path(key, value) for key, value in flags.get("model", {}).items()}
    return {**flags, **({"data": data} if data else {}), **({"model": model} if model else {})}


def _absolute_path(key: str, value: object) -> object:
    named = key in ("calibration", "evaluation", "training", "weights", "source")
    code = key == "metric" and isinstance(value, str) and ":" in value
    return str(Path(value).absolute()) if isinstance(value, str) and (named or code) else value
