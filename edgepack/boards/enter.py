"""The first process of an emulated board: `python -m edgepack.boards.enter ROOM`, as root inside namespaces of its own.

It lays the board's root out (shared arm64 Debian below, the board's own writes above, fake /proc and /sys), then becomes the
machine's own sshd, which puts each login into that root. When this process ends, the kernel ends all others and every mount.
Traps that shaped it are known from practice: sshd refuses a ChrootDirectory whose parents others may write to (/tmp), it scrubs
the environment (only SetEnv carries QEMU_CPU, without which any instruction would do), and /run/sshd must exist.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import msgspec

from edgepack.boards import device, layout, places
from edgepack.boards.device import Device
from edgepack.boards.host import SSHD, must
from edgepack.boards.launch import Room

STAGE = Path("/run/edgepack-board")

_OVER_THE_HOSTS = ("passwd", "group", "shadow", "nsswitch.conf")


def furnish(room: Room) -> Device:
    """Lay the board's root out below STAGE; the device that it stands for."""
    described = device.read(room.profile)
    STAGE.mkdir(exist_ok=True)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    _mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", STAGE)
    root = STAGE / "root"
    for part in ("root", "lower", "own", "fake"):
        (STAGE / part).mkdir()
    _mount("--bind", room.folder, STAGE / "own")
    if room.overlay:
        # Through mounts whose paths we choose: overlay's options cannot hold a comma or a colon of the user's paths.
        _mount("--bind", room.root, STAGE / "lower")
        layers = f"lowerdir={STAGE}/lower,upperdir={STAGE}/own/upper,workdir={STAGE}/own/work"
        _mount("-t", "overlay", "-o", layers, "overlay", root)
    else:
        _mount("--bind", STAGE / "own" / "root", root)
    _mount("-t", "proc", "proc", root / "proc")
    for file in device.fake_files(described):
        path = STAGE / "fake" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    for name in ("cpuinfo", "meminfo"):
        _mount("--bind", STAGE / "fake/proc" / name, root / "proc" / name)
    closed = STAGE / "fake" / "closed"
    closed.touch(mode=0o000)
    for name in layout.of(described.layout).hidden:
        _mount("--bind", closed, root / "proc" / name)
    _mount("--bind", STAGE / "fake/sys", root / "sys")
    _mount("-o", "remount,ro,bind", root / "sys")
    _mount("--rbind", "/dev", root / "dev")
    (root / "etc/hostname").write_text(f"{room.name}\n")
    for name in _OVER_THE_HOSTS:
        if Path("/etc", name).exists():
            _mount("--bind", root / "etc" / name, f"/etc/{name}")
    return described


def keys_in(room: Room) -> None:
    """The keys where sshd may read them whoever it is: the board's folder is closed to all but its owner."""
    folder = Path(room.folder)
    authorized = STAGE / "authorized_keys"
    shutil.copyfile(folder / f"{places.CLIENT_KEY}.pub", authorized)
    authorized.chmod(0o644)
    secret = STAGE / places.HOST_KEY
    secret.touch(mode=0o600)
    shutil.copyfile(folder / places.HOST_KEY, secret)


def sshd(room: Room, described: Device) -> list[str]:
    """The command that serves the board. Keys that its own user authorizes there count too, with their restrictions."""
    place = layout.of(described.layout)
    environment = (("QEMU_CPU", described.qemu_cpu), *place.environment)
    own_keys = f"{STAGE}/root{place.home}/.ssh/authorized_keys"
    options = {
        "Port": str(room.port),
        "ListenAddress": "127.0.0.1",
        "HostKey": str(STAGE / places.HOST_KEY),
        "AuthorizedKeysFile": f"{STAGE / 'authorized_keys'} {own_keys}",
        "AllowUsers": room.user,
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "StrictModes": "no",
        "UsePAM": "no",
        "UseDNS": "no",
        "PidFile": "none",
        "PrintLastLog": "no",
        "MaxStartups": "100:30:200",
        "MaxSessions": "100",
        "ChrootDirectory": str(STAGE / "root"),
        "Subsystem": "sftp internal-sftp",
        "SetEnv": " ".join(f"{name}={value}" for name, value in environment),
    }
    return [str(SSHD), "-D", "-e", "-f", "/dev/null", *(f"-o{key}={value}" for key, value in options.items())]


def _mount(*words: str | Path) -> None:
    must(["mount", *map(str, words)], "laying the board's root out")


def main() -> None:
    room = msgspec.json.decode(sys.argv[1], type=Room)
    described = furnish(room)
    keys_in(room)
    socket.sethostname(room.name)
    command = sshd(room, described)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
