"""The root file system of emulated boards: arm64 Debian out of the host's own mirrors, unpacked without running foreign code.

Packages come through a private apt configuration (its own state and cache, architecture arm64) that copies those entries of
the host's sources that lead to Debian, so mirrors, keys and proxies are the host's. Built once, shared read-only by all boards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack import digest
from edgepack.boards import record
from edgepack.boards.host import must, run
from edgepack.errors import BoardError
from edgepack.home import home

if TYPE_CHECKING:
    from edgepack.ports import Progress

USER = "pi"
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

_RECIPE = 1  # raise it when what is built changes
_UNREAD = ("doc", "man", "locale", "info", "lintian", "bug")
_ID = 1000


def ensure(progress: Progress) -> Path:
    """The root of arm64 Debian, from the cache or built now. Raises BoardError where apt or a tool fails."""
    entries = _debian_entries(progress)
    key = digest.hex_of(digest.of_value([_RECIPE, PACKAGES, entries]))[:16]
    cache = home() / "cache" / "rootfs"
    root = cache / key
    with record.lock(cache / ".lock"):
        if root.is_dir():
            return root
        for stale in cache.glob(".building-*"):  # a build that was killed; nobody else builds while we hold the lock
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as work:
            built = _build(Path(work), entries, progress)
            built.replace(root)
    return root


def _build(work: Path, entries: tuple[str, ...], progress: Progress) -> Path:
    with progress.step("fetching arm64 Debian (apt-get)"):
        archives = _fetch(work, entries)
    root = work / "root"
    _skeleton(root)
    for archive in progress.track(archives, "unpacking arm64 Debian", total=len(archives)):
        _unpack(archive, root)
    with progress.step("setting arm64 Debian up"):
        _configure(root)
        _compile(root)
    return root


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


def _fetch(work: Path, entries: tuple[str, ...]) -> list[Path]:
    """Download the packages and all they need. Raises BoardError with what apt said."""
    for folder in ("sources", "state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    for number, entry in enumerate(entries):
        suffix = "sources" if entry.startswith("Types:") else "list"
        (work / "sources" / f"debian-{number}.{suffix}").write_text(entry)
    configuration = work / "apt.conf"
    configuration.write_text(_configuration(work))
    apt = ["apt-get", "-c", str(configuration), "-q", "-y"]
    must([*apt, "update"], "reading Debian's arm64 package lists")
    must([*apt, "install", "--download-only", "--no-install-recommends", *PACKAGES], "fetching arm64 Debian")
    archives = sorted((work / "cache/archives").glob("*.deb"))
    if not archives:
        raise BoardError("apt fetched no arm64 packages", advice="look at the machine's apt configuration")
    return archives


def _configuration(work: Path) -> str:
    return f"""
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
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


def _unpack(archive: Path, root: Path) -> None:
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
    user = f"{USER}:x:{_ID}:{_ID}:{USER}:/home/{USER}:/bin/sh\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
    accounts = (masters / "passwd.master").read_text().replace(":*:", ":x:") + user
    names = [line.partition(":")[0] for line in accounts.splitlines()]
    files = {
        "etc/passwd": accounts,
        "etc/group": (masters / "group.master").read_text().replace(":*:", ":x:") + f"{USER}:x:{_ID}:\n",
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
    place = root / "home" / USER
    place.mkdir(parents=True)
    (place / ".edgepack-board").write_text("emulated\n")
    for path in (place, place / ".edgepack-board"):
        os.chown(path, _ID, _ID)
    must(["ldconfig", "-r", str(root)], "listing the board's libraries")


def _certificates(root: Path) -> str:
    return "".join(path.read_text() for path in sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt")))


def _compile(root: Path) -> None:
    """Python's byte code, which no user of the board may write: without it each start compiles all it imports, emulated."""
    library = next((root / "usr/lib").glob("python3.[0-9]*"))
    skip = r"/(test|tests|idlelib|lib2to3|turtledemo|ensurepip/_bundled)/"
    compiler = ["-m", "compileall", "-q", "-x", skip]
    if python := _same_python(library.name):
        command = [python, "-I", *compiler, "-j", "0", "-s", str(root), "-p", "/", str(library)]
    else:
        command = ["chroot", str(root), "/usr/bin/python3", *compiler, f"/usr/lib/{library.name}"]
    must(command, "compiling the board's Python library")


def _same_python(name: str) -> str:
    """A Python of this machine that writes the same byte code, which no machine type is in; else the board's must, slowly."""
    if name == f"python{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    debians = Path("/usr/bin", name)
    return str(debians) if debians.exists() else ""
