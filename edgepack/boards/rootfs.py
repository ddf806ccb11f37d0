"""The root file systems of emulated boards: Debian for ARM out of the host's own mirrors, unpacked without running foreign code.

Packages come through a private apt configuration (its own state and cache, the board's architecture) that copies those entries of
the host's sources that lead to Debian, so mirrors, keys and proxies are the host's. Built once, shared read-only by all boards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from edgepack import digest
from edgepack.boards import device, layout, record, termux
from edgepack.boards.device import Architecture
from edgepack.boards.host import must, run, tail
from edgepack.boards.layout import LayoutName
from edgepack.errors import BoardError
from edgepack.home import home
from edgepack.lock import Wheel

if TYPE_CHECKING:
    from edgepack.ports import Progress

USER = layout.DEBIAN.user
PACKAGES = (
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "libc-bin",
    "login",
    "passwd",
    "openssh-client",
    "python3",
    "python3-venv",
    "python3-pip-whl",
    "python3-setuptools-whl",
    "tar",
    "gzip",
    "grep",
    "sed",
    "findutils",
    "procps",
    "hostname",
    "util-linux",
    "mount",
    "debianutils",
    "mawk",
    "ca-certificates",
    "netbase",
    "libgomp1",
    "libstdc++6",
)

NUMPY_PACKAGES = ("python3-numpy",)
"""What a 32-bit board has besides: no package index holds numpy for it, so that every runtime there takes Debian's."""

_RECIPE = 1  # raise it when what is built changes
_TERMUX_RECIPE = 1
_UNREAD = ("doc", "man", "locale", "info", "lintian", "bug")


@dataclass(frozen=True)
class Shape:
    """Which programs a root holds, and where they lie."""

    architecture: Architecture = "arm64"
    layout: LayoutName = "debian"


def ensure(progress: Progress, shape: Shape = Shape()) -> Path:
    """The root of that shape, from the cache or built now. Raises BoardError where apt, pip or a tool fails."""
    match shape.layout:
        case "debian":
            return _ensure_debian(shape.architecture, progress)
        case "termux":
            return _ensure_termux(_ensure_debian(shape.architecture, progress), progress)
        case _:
            assert_never(shape.layout)


def _ensure_debian(architecture: Architecture, progress: Progress) -> Path:
    entries = _debian_entries(progress)
    key: list[object] = [_RECIPE, PACKAGES, entries]
    if architecture == "armhf":
        key += [architecture, NUMPY_PACKAGES]
    return _kept(key, lambda work: _build(work, entries, architecture, progress))


def _ensure_termux(debian: Path, progress: Progress) -> Path:
    """Its own copy of Debian's files, moved, with the runtime in it that a phone's package manager would bring."""
    (library,) = (debian / "usr/lib").glob("python3.[0-9]*")
    runtime = termux.runtime_of(library.name.removeprefix("python"))
    key: list[object] = [_TERMUX_RECIPE, debian.name, runtime.digest()]

    def build(work: Path) -> Path:
        root = work / "root"
        with progress.step("shaping a phone's file system"):
            must(["cp", "-a", str(debian), str(root)], "copying the board's root")
            termux.reshape(root, device.read("android-arm64").model)
        packages = root / layout.TERMUX_FILES / "usr/lib/python3/dist-packages"
        with progress.step(f"fetching {runtime.runtime} {runtime.version} (pip)"):
            _install_wheels(work, packages, runtime.wheels)
        with progress.step("setting the phone up"):
            _compile(root, packages)
            termux.own(root)
        return root

    return _kept(key, build)


def _kept(key: list[object], build: Callable[[Path], Path]) -> Path:
    """The root that `key` names, built once, aside, and moved into its place whole."""
    cache = home() / "cache" / "rootfs"
    root = cache / digest.hex_of(digest.of_value(key))[:16]
    with record.lock(cache / ".lock"):
        if root.is_dir():
            return root
        for stale in cache.glob(".building-*"):  # a build that was killed; nobody else builds while we hold the lock
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as work:
            build(Path(work)).replace(root)
    return root


def _build(work: Path, entries: tuple[str, ...], architecture: Architecture, progress: Progress) -> Path:
    with progress.step(f"fetching {architecture} Debian (apt-get)"):
        archives = _fetch(work, entries, architecture, progress)
    root = work / "root"
    _skeleton(root)
    for archive in progress.track(archives, f"unpacking {architecture} Debian", total=len(archives)):
        unpack(archive, root)
    with progress.step(f"setting {architecture} Debian up"):
        _configure(root)
        (library,) = (root / "usr/lib").glob("python3.[0-9]*")
        _compile(root, library)
        if architecture == "armhf":
            _compile(root, root / "usr/lib/python3/dist-packages")
    return root


def _install_wheels(work: Path, folder: Path, wheels: Sequence[Wheel]) -> None:
    """Exactly these wheels, by digest, into a board's folder for packages; nothing of them is run."""
    listing = work / "requirements.txt"
    listing.write_text("".join(f"{one.name}=={one.version} --hash={one.digest}\n" for one in wheels))
    tags = [one.filename.removesuffix(".whl").split("-")[-3:] for one in wheels]
    words = [("--abi", abi) for _, abi, _ in tags] + [("--platform", one) for *_, p in tags for one in p.split(".")]
    options = [word for pair in dict.fromkeys(words) for word in pair]
    python = tags[0][0].removeprefix("cp")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--no-compile"]
    command += ["--no-input", "--require-hashes", "--implementation", "cp", "--python-version", f"3.{python[1:]}"]
    must([*command, *options, "--target", str(folder), "-r", str(listing)], "fetching the board's runtime")


def _debian_entries(progress: Progress) -> tuple[str, ...]:
    """The entries of the host's apt sources that lead to Debian: one deb822 paragraph or one line each."""
    found = _listed_entries()
    if not found:
        with progress.step("updating the package lists (apt-get)"):
            run(["apt-get", "update", "-q"])
        found = _listed_entries()
    if not found:
        raise BoardError(
            "apt knows no Debian mirror: an emulated board is built from the machine's own package sources",
            expected="/etc/apt/sources.list or sources.list.d with an entry for Debian",
            advice="apt-get update",
        )
    return tuple(text for entry in found if (text := _entry(entry)))


def _listed_entries() -> tuple[str, ...]:
    """`FILE:N` of each source whose release file says Debian."""
    text = must(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(SOURCESENTRY)", "Created-By: Packages"], "reading apt"
    )
    pairs = (line.partition("|") for line in text.splitlines())
    return tuple(sorted({entry for origin, _, entry in pairs if origin == "Debian"}))


def _entry(at: str) -> str:
    """An entry's text, its architectures dropped: apt counts paragraphs in .sources files, lines in .list files, from 1."""
    path, _, number = at.rpartition(":")
    text = Path(path).read_text()
    if path.endswith(".sources"):
        return paragraph(text, int(number))
    line = text.splitlines()[int(number) - 1].strip()
    return one_line(line)


def paragraph(text: str, number: int) -> str:
    """The `number`th paragraph of a deb822 file for binary packages of any architecture, comments dropped."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    paragraphs = [part for part in "\n".join(lines).split("\n\n") if part.strip()]
    kept: list[str] = []
    dropping = False
    for line in paragraphs[number - 1].strip("\n").splitlines():
        if not line[:1].isspace():
            dropping = line.lower().startswith(("types:", "architectures:"))
        if not dropping:
            kept.append(line)
    return "\n".join(["Types: deb", *kept, ""])


def one_line(line: str) -> str:
    """A `deb [options] URI suite components` line without its architectures."""
    if "[" not in line:
        return line + "\n"
    head, _, rest = line.partition("[")
    options, _, tail = rest.partition("]")
    kept = [option for option in options.split() if not option.startswith(("arch=", "arch+=", "arch-="))]
    return f"{head}[{' '.join(kept)}]{tail}\n" if kept else f"{head.rstrip()}{tail}\n"


def fetch_beyond(work: Path, packages: tuple[str, ...], progress: Progress) -> list[Path]:
    """Download arm64 packages, and all they need that the root does not hold. Raises BoardError with what apt said."""
    apt = _private_apt(work, _debian_entries(progress))
    must([*apt, "update"], "reading Debian's arm64 package lists")
    within, beyond = (_needs(apt, names) for names in (PACKAGES, (*PACKAGES, *packages)))
    names = sorted(beyond - within)
    # apt downloads into the working folder, and knows no other way
    fetch = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(work), *apt, "download", *names]
    must(fetch, "fetching arm64 Debian")
    return sorted(work.glob("*.deb"))


def _needs(apt: list[str], packages: tuple[str, ...]) -> set[str]:
    """The packages that an installation from nothing would bring."""
    text = must([*apt, "--simulate", "--no-install-recommends", "install", *packages], "resolving arm64 Debian")
    return {line.split()[1].partition(":")[0] for line in text.splitlines() if line.startswith("Inst ")}


def _fetch(work: Path, entries: tuple[str, ...], architecture: Architecture, progress: Progress) -> list[Path]:
    """Download the packages and all they need. Raises BoardError with what apt said."""
    apt = _private_apt(work, entries, architecture)
    listed = run([*apt, "update"])
    packages = (*PACKAGES, *(NUMPY_PACKAGES if architecture == "armhf" else ()))
    fetched = run([*apt, "install", "--download-only", "--no-install-recommends", *packages])
    archives = sorted((work / "cache/archives").glob("*.deb"))
    if fetched.returncode != 0 or not archives:
        said = tail(fetched) if listed.returncode == 0 else tail(listed)
        raise BoardError(f"apt-get could not fetch {architecture} Debian:\n{said}", advice="try again later")
    if listed.returncode != 0:  # a mirror in the middle of a change: what its other lists hold is whole, and signed
        why = next((line for line in listed.stderr.splitlines() if line.startswith("E:")), "apt-get update failed")
        progress.warn(
            f"one of Debian's {architecture} package lists could not be read, the board does without it: {why}"
        )
    return archives


def _private_apt(work: Path, entries: tuple[str, ...], architecture: Architecture = "arm64") -> list[str]:
    """apt-get with a state of its own below `work`, which knows of no installed package."""
    for folder in ("sources", "state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    for number, entry in enumerate(entries):
        suffix = "sources" if entry.startswith("Types:") else "list"
        (work / "sources" / f"debian-{number}.{suffix}").write_text(entry)
    configuration = work / "apt.conf"
    configuration.write_text(_configuration(work, architecture))
    return ["apt-get", "-c", str(configuration), "-q", "-y"]


def _configuration(work: Path, architecture: Architecture) -> str:
    return f"""
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "{work}/state";
Dir::State::status "{work}/status";
Dir::Cache "{work}/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{work}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""


def _skeleton(root: Path) -> None:
    """The merged /usr, which Debian's installer lays before it unpacks anything."""
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("proc", "sys", "dev", "run/sshd", "tmp", "var/tmp", "etc/ssl/certs"):
        (root / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)


def unpack(archive: Path, root: Path) -> None:
    skip = [f"--exclude=./usr/share/{name}" for name in _UNREAD]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as source:
        tar = ["tar", "-x", "-C", str(root), "--keep-directory-symlink", "--numeric-owner", "--same-owner", "-p", *skip]
        done = subprocess.run(tar, stdin=source.stdout, capture_output=True, text=True)
    if done.returncode or source.returncode:
        raise BoardError(
            f"{archive.name}: cannot be unpacked: {done.stderr.strip()}", advice="try again; is the disk full?"
        )


def _configure(root: Path) -> None:
    """What packages' own scripts would have done, as far as a board needs it."""
    masters = root / "usr/share/base-passwd"
    who = layout.DEBIAN
    user = f"{who.user}:x:{who.number}:{who.number}:{who.user}:{who.home}:{who.shell}\n"
    user += "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
    accounts = (masters / "passwd.master").read_text().replace(":*:", ":x:") + user
    names = [line.partition(":")[0] for line in accounts.splitlines()]
    files = {
        "etc/passwd": accounts,
        "etc/group": (masters / "group.master").read_text().replace(":*:", ":x:") + f"{who.user}:x:{who.number}:\n",
        "etc/shadow": "".join(f"{name}:*:19000:0:99999:7:::\n" for name in names),
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
        "etc/edgepack-board": "emulated\n",
        "etc/ssl/certs/ca-certificates.crt": _certificates(root),
    }
    for name, text in files.items():
        (root / name).write_text(text)
    (root / "etc/shadow").chmod(0o640)
    for link, target in (("usr/bin/sh", "dash"), ("usr/bin/awk", "mawk")):
        (root / link).unlink(missing_ok=True)
        (root / link).symlink_to(target)
    for name in ("blas", "lapack"):  # Debian's alternatives, which unpacking alone does not make
        for library in (root / "usr/lib").glob(f"*-linux-*/{name}/lib{name}.so.3"):
            (library.parent.parent / library.name).symlink_to(Path(name, library.name))
    place = root / who.home.relative_to("/")
    place.mkdir(parents=True)
    (place / ".edgepack-board").write_text("emulated\n")
    for path in (place, place / ".edgepack-board"):
        os.chown(path, who.number, who.number)
    must(["ldconfig", "-r", str(root)], "listing the board's libraries")


def _certificates(root: Path) -> str:
    return "".join(path.read_text() for path in sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt")))


def _compile(root: Path, folder: Path) -> None:
    """Python's byte code, which no user of the board may write: without it each start compiles all it imports, emulated."""
    (library,) = (root / "lib").resolve().glob("python3.[0-9]*")
    skip = r"/(test|tests|idlelib|lib2to3|turtledemo|ensurepip/_bundled)/"
    compiler = ["-m", "compileall", "-q", "-x", skip]
    if python := _same_python(library.name):
        command = [python, "-I", *compiler, "-j", "0", "-s", str(root), "-p", "/", str(folder)]
    else:
        inside = "/" / library.parent.parent.relative_to(root) / "bin/python3"
        command = ["chroot", str(root), str(inside), *compiler, str("/" / folder.relative_to(root))]
    must(command, "compiling the board's Python library")


def _same_python(name: str) -> str:
    """A Python of this machine that writes the same byte code, which no machine type is in; else the board's must, slowly."""
    if name == f"python{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    debians = Path("/usr/bin", name)
    return str(debians) if debians.exists() else ""
