"""Releases: a bundle's files under one folder, written aside, linked to blobs, complete before they get their name."""

from __future__ import annotations

import json
import os
import pkgutil
import shutil
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

from . import journal, runtime, selftest, store, trust
from .faults import Fault
from .requests import InstallRequest, check

if TYPE_CHECKING:
    from .admission import Subject

SCHEMA = "edgepack.installed/1"


class Record(NamedTuple):
    """release.json.

    digest: the bundle's; manifest: of manifest.json; variant: the one that `current/NAME` means; variants: all that are here;
    runtimes: RUNTIME to its key; assurance, key, checked_by, expires: what the check of its signature came to
    record, signature: the release record as it was signed, and the armored SSHSIG over it
    """

    name: str
    version: str
    digest: str
    manifest: str
    profile: str
    variant: str
    variants: List[str]
    runtimes: Dict[str, str]
    assurance: str = "unsigned"
    key: str = ""
    checked_by: str = ""
    expires: str = ""
    record: str = ""
    signature: str = ""

    @property
    def subject(self) -> Subject:
        from .admission import Subject

        return Subject(self.digest, self.manifest, self.name, self.version, self.profile)


class Variant(NamedTuple):
    id: str
    runtime: str
    digest: str
    golden: str
    tolerance: List[float]


def install(root: str, request: InstallRequest) -> Dict[str, Any]:
    """Make a release ready to be activated: its files in place and hashed, its golden samples run in the real runtime.

    Raises Fault where a blob is missing or broken, the manifest is not the request's, this board does not trust it, or an answer
    is wrong. Nothing of a release is run before its signature was checked.
    """
    with store.locked(root, "install", request.who):
        manifest = read_manifest(store.blob_path(root, request.manifest), request.manifest)
        if (manifest["name"], manifest["version"]) != (request.name, request.version):
            raise Fault("trust", f"the manifest is of {manifest['name']} {manifest['version']}", expected=request.name)
        request, admitted = _admit(root, request, str(manifest["profile"]["name"]))
        variants = [variant(manifest, id) for id in request.variants]
        keys = {use.runtime: use.key for use in request.runtimes}
        _place(root, request, variants)
        folder = store.release_folder(root, request.name, request.release)
        results = selftest.run(root, folder, variants, keys, request.selftest_seconds)
        record = _record(root, request, manifest, keys, admitted)
        store.write_json(os.path.join(folder, "release.json"), {"schema": SCHEMA, **record._asdict()})
        trusted = f"{admitted.assurance} {admitted.key}".strip()
        journal.append(root, "install", who=request.who, release=request.release, verdict="ready", trust=trusted)
    return {"selftests": results, **admitted._asdict()}


def _admit(root: str, request: InstallRequest, profile: str) -> Tuple[InstallRequest, trust.Admission]:
    """The request with the signature that counts: the one it brings, or else the one that the board already has."""
    if not request.record:
        before = read(root, request.name, request.release)
        if before is not None:
            request = request._replace(record=before.record, signature=before.signature)
    from .admission import Subject

    subject = Subject(request.release, request.manifest, request.name, request.version, profile)
    highest = store.read_lines(root).get(request.name, store.Line()).highest
    return request, trust.admit(root, subject, request.record, request.signature, highest, request.downgrade)


def read(root: str, name: str, digest: str) -> Optional[Record]:
    """A release that is ready, or None."""
    raw = store.read_json(os.path.join(store.release_folder(root, name, digest), "release.json"))
    return None if raw is None else Record(**{field: raw[field] for field in Record._fields if field in raw})


def require(root: str, name: str, digest: str) -> Record:
    """A release that is ready. Raises Fault otherwise."""
    found = read(root, name, digest)
    if found is None:
        raise Fault("board", f"the release {digest} of {name} is not on the board", advice="push the bundle again")
    return found


def all_of(root: str) -> List[Record]:
    """Every release that is ready."""
    found = []
    for name in store.names_in(os.path.join(root, "releases")):
        for folder in store.names_in(os.path.join(root, "releases", name)):
            record = read(root, name, "sha256:" + folder)
            if record is not None:
                found.append(record)
    return found


def read_manifest(path: str, digest: str = "") -> Dict[str, Any]:
    """A manifest, its own digest checked where one is given. Raises Fault where it is missing, changed or no manifest."""
    if not os.path.exists(path):
        raise Fault("board", f"the manifest {digest or path} is not on the board", advice="push the bundle again")
    if digest:
        store.ensure_intact(path, digest)
    with open(path, "rb") as file:
        manifest = json.loads(file.read())
    if not isinstance(manifest, dict) or manifest.get("schema") != "edgepack.manifest/1":
        raise Fault("input", f"{path} is no manifest", expected="edgepack.manifest/1")
    check(str(manifest["name"]), "name")
    return manifest


def variant(manifest: Dict[str, Any], id: str) -> Variant:
    """One variant of a manifest. Raises Fault where there is none of that name, or its name or digests are evil."""
    check(id, "file")
    for raw in manifest["variants"]:
        if raw["id"] == id:
            digest, golden = check(raw["digest"], "digest"), check(raw["golden"], "digest")
            return Variant(id, str(raw["runtime"]), digest, golden, [float(bound) for bound in raw["tolerance"]])
    raise Fault(
        "input", f"the bundle holds no variant {id!r}", expected=", ".join(v["id"] for v in manifest["variants"])
    )


def intact(root: str, record: Record, thorough: bool) -> bool:
    """Whether a release's files are all there and, where asked to be thorough, hash to what its manifest says."""
    folder = store.release_folder(root, record.name, record.digest)
    try:
        if thorough and store.hash_file(os.path.join(folder, "manifest.json")) != record.manifest:
            return False
        manifest = read_manifest(os.path.join(folder, "manifest.json"))
        wanted = [(id, variant(manifest, id).digest) for id in record.variants]
        if not all(os.path.isfile(os.path.join(folder, id)) for id, _ in wanted):
            return False
        if any(runtime.find(root, key) is None for key in record.runtimes.values()):
            return False
        return not thorough or all(store.hash_file(os.path.join(folder, id)) == digest for id, digest in wanted)
    except (Fault, OSError, ValueError):
        return False


def _record(
    root: str, request: InstallRequest, manifest: Dict[str, Any], keys: Dict[str, str], admitted: trust.Admission
) -> Record:
    before = read(root, request.name, request.release)
    variants = sorted(set(request.variants) | set(before.variants if before else ()))
    profile = str(manifest["profile"]["name"])
    runtimes = {**(before.runtimes if before else {}), **keys}
    return Record(
        name=request.name,
        version=request.version,
        digest=request.release,
        manifest=request.manifest,
        profile=profile,
        variant=request.variant,
        variants=variants,
        runtimes=runtimes,
        assurance=admitted.assurance,
        key=admitted.key,
        checked_by=admitted.checked_by,
        expires=admitted.expires,
        record=request.record,
        signature=request.signature,
    )


def _place(root: str, request: InstallRequest, variants: List[Variant]) -> None:
    """The release's folder: made aside and renamed, or, where it is already there, completed link by link."""
    for one in variants:
        for digest in (one.digest, one.golden):
            path = store.blob_path(root, digest)
            if not os.path.exists(path):
                raise Fault(
                    "board", f"the blob {digest} of {one.id} is not on the board", advice="push the bundle again"
                )
            store.ensure_intact(path, digest)
    folder = store.release_folder(root, request.name, request.release)
    releases, name = os.path.split(folder)
    os.makedirs(releases, exist_ok=True)
    store.sweep(releases)
    if os.path.isdir(folder):
        _fill(root, folder, request, variants)
        return
    aside = os.path.join(releases, f".{name}.{os.getpid()}")
    os.makedirs(aside)
    try:
        _fill(root, aside, request, variants)
        os.rename(aside, folder)
        store.sync_folder(releases)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _fill(root: str, folder: str, request: InstallRequest, variants: List[Variant]) -> None:
    _link(store.blob_path(root, request.manifest), os.path.join(folder, "manifest.json"))
    for one in variants:
        _link(store.blob_path(root, one.digest), os.path.join(folder, one.id))
    source = pkgutil.get_data(__package__, "run.py")
    if source is None:
        raise Fault("board", "the agent on the board is not whole", advice="remove ROOT/agent there and push again")
    store.write_file(os.path.join(folder, "run.py"), source)
    store.sync_folder(folder)


def _link(blob: str, path: str) -> None:
    """A hard link, or a symbolic one where the file system has none; replaces whatever is there."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        os.link(blob, aside)
    except (OSError, AttributeError):  # Android lets no app make hard links, and its Python may not even know how
        # relative, so that ROOT may be moved: releases/NAME/HEX/ and its aside lie equally deep
        os.symlink(os.path.relpath(blob, folder), aside)
    os.replace(aside, path)
    if os.path.lexists(aside):  # two names of one file: rename leaves both
        os.unlink(aside)
