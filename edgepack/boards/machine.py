"""A machine board: a whole arm64 system under QEMU, kernel and disk included, whose plug can be pulled.

What it has not flushed when that happens is lost, as on a device. It stands for no device's speed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.boards import cpio, device, host, image, launch, places, processes, record, rootfs
from edgepack.boards.image import Image
from edgepack.boards.keys import public_of
from edgepack.boards.launch import Server, Spawned
from edgepack.errors import BoardError, UsageError

if TYPE_CHECKING:
    from edgepack.ports import Progress

DISK = "disk.qcow2"
SNAPSHOT = "ready"
BOOT_SECONDS = 240.0
"""A cold boot takes 6 to 20 s; a machine that is busy with other things takes its time."""

_QEMU = "qemu-system-aarch64"
_MONITOR = "monitor"
_INITRD = "initrd"
_TRIES = 5
_MONITOR_SECONDS = 120.0


def prepare(profile: str, progress: Progress) -> Image:
    """Make this machine able to host machine boards; what they share, built where it is not there yet.

    Raises UsageError where this machine cannot host one or the profile cannot be emulated, BoardError where it fails.
    """
    described = device.read(profile)
    if (described.architecture, described.layout) != ("arm64", "debian"):
        raise UsageError(
            f"profile {profile!r} cannot be a machine board",
            expected="a 64-bit device with Debian on it, as rpi4",
            advice="--kind emulated",
        )
    if reason := host.can_host_machine():
        raise UsageError(reason, advice="--kind loopback runs anywhere")
    host.prepare_machine(progress)
    return image.ensure(progress)


def start(name: str, profile: str, shared: Image, snapshot: bool = False) -> Server:
    """Start the board, its keys being in place, from its disk or from a snapshot; returns when an SSH server speaks.

    Raises BoardError where it does not.
    """
    folder = places.folder(name)
    _furnish(name, folder, shared)
    known = record.read(name)
    for attempt in range(_TRIES):  # another process may take the free port before QEMU does
        port = known.port if known and attempt == 0 else launch.free_port()
        (folder / places.LOG).write_bytes(b"")
        process = launch.spawn(folder, ["env", "-C", str(folder), *_command(profile, shared, port, snapshot)])
        if _await_banner(process, port):
            return Server(process.pid, process.born, port, rootfs.USER)
        ran = process.runs()
        process.end()
        if ran or b"hostfwd" not in (folder / places.LOG).read_bytes():
            break
    raise BoardError(f"board {name!r} did not boot\n{launch.tail(folder)}", advice=f"edgepack board down {name}")


def pull_the_plug(pid: int, born: str) -> None:
    """End QEMU without a word to what runs in it."""
    if processes.runs(pid, born):
        os.kill(pid, signal.SIGKILL)
        processes.end(pid, born, grace=10.0)


def save(name: str) -> None:
    """Keep the running board as it is now, memory and disk, to return to. Raises BoardError."""
    said = _ask(name, f"savevm {SNAPSHOT}")
    if said.strip():
        raise BoardError(f"board {name!r}: no snapshot was made: {said.strip()}")


def _furnish(name: str, folder: Path, shared: Image) -> None:
    """The board's own disk over the shared one, and its keys where the kernel finds them."""
    disk = folder / DISK
    if not disk.exists():
        aside = folder / f"{DISK}.new"
        layers = ["-b", str(shared.disk), "-F", "raw"]
        host.must(["qemu-img", "create", "-q", "-f", "qcow2", *layers, str(aside)], "making the board's disk")
        aside.replace(disk)
    own = [
        cpio.Entry("board"),
        cpio.Entry("board/hostname", f"{name}\n".encode(), 0o644),
        cpio.Entry("board/host_key", (folder / places.HOST_KEY).read_bytes(), 0o600),
        cpio.Entry("board/authorized_keys", public_of(folder / places.CLIENT_KEY).read_bytes(), 0o644),
    ]
    base = shared.initrd.read_bytes()
    record.replace(folder / _INITRD, base + bytes(-len(base) % 4) + cpio.archive(own))


def _command(profile: str, shared: Image, port: int, snapshot: bool) -> list[str]:
    described = device.read(profile)
    options = {
        "machine": "virt",
        "cpu": described.qemu_cpu,
        "smp": str(min(2, described.cores)),
        "m": "1024",
        "kernel": str(shared.kernel),
        "initrd": _INITRD,
        "append": "console=ttyAMA0 quiet panic=-1",
        "drive": f"if=none,id=disk,format=qcow2,file={DISK}",
        "netdev": f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "display": "none",
        "serial": "stdio",
        "monitor": "none",
        "qmp": f"unix:{_MONITOR},server=on,wait=off",
    }
    command = [_QEMU, "-nodefaults", "-no-reboot"]
    command += [word for key, value in options.items() for word in (f"-{key}", value)]
    for one in ("virtio-blk-device,drive=disk", "virtio-net-device,netdev=net", "virtio-rng-device"):
        command += ["-device", one]
    return [*command, "-loadvm", SNAPSHOT] if snapshot else command


def _await_banner(process: Spawned, port: int) -> bool:
    """Whether an SSH server speaks: QEMU takes connections before anything listens inside."""
    limit = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < limit and process.runs():
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 1.0) as link,
        ):
            link.settimeout(2.0)
            if link.recv(4).startswith(b"SSH-"):
                return True
        time.sleep(0.1)
    return False


def _ask(name: str, command: str) -> str:
    """What QEMU's monitor says to a command."""
    with _monitor(name) as link, link.makefile("rw") as stream:
        stream.readline()  # its greeting
        for request in (
            {"execute": "qmp_capabilities"},
            {"execute": "human-monitor-command", "arguments": {"command-line": command}},
        ):
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            reply = _reply(stream)
        if "error" in reply:
            raise BoardError(f"board {name!r}: QEMU refused {command!r}: {reply['error'].get('desc')}")
        return str(reply["return"])


def _reply(stream: Any) -> dict[str, Any]:
    while line := stream.readline():
        said: dict[str, Any] = json.loads(line)
        if "return" in said or "error" in said:
            return said
    return {"error": {"desc": "it ended"}}


@contextlib.contextmanager
def _monitor(name: str) -> Iterator[socket.socket]:
    """Through the folder's descriptor: a socket's path may be 107 bytes long, a user's folder longer."""
    folder = os.open(places.folder(name), os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_MONITOR_SECONDS)
            link.connect(f"/proc/self/fd/{folder}/{_MONITOR}")
            yield link
    except OSError as error:
        raise BoardError(f"board {name!r}: QEMU's monitor does not answer: {error}") from None
    finally:
        os.close(folder)
