"""What all machine boards share: Debian's arm64 kernel, an initial RAM disk that finds the disk, and that disk.

The disk holds the emulated boards' root with an SSH server of its own inside. No foreign code runs while it is made.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack import digest
from edgepack.boards import cpio, record, rootfs
from edgepack.boards.host import must
from edgepack.errors import BoardError
from edgepack.home import home

if TYPE_CHECKING:
    from edgepack.ports import Progress

_RECIPE = 1  # raise it when what is built changes
_PACKAGES = ("openssh-server", "busybox-static", "linux-image-cloud-arm64")
_NOT_UNPACKED = ("linux-", "initramfs-", "busybox")
_DISK_BYTES = 3 << 30  # sparse

# In the order in which they need each other; what a kernel has built in is no file of its own.
_MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_mmio",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "rng-core",
    "virtio-rng",
    "crc16",
    "mbcache",
    "jbd2",
    "ext4",
)

# 10.0.2.15 is where QEMU's user network looks for its guest.
_INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /dev /new
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
while read module; do busybox insmod "/modules/$module" || echo "no $module"; done < /modules/order
busybox ip link set lo up
busybox ip addr add 10.0.2.15/24 dev eth0
busybox ip link set eth0 up
busybox mount -t ext4 -o rw,noatime /dev/vda /new || exec busybox poweroff -f
busybox mount -t tmpfs -o mode=0755 run /new/run
busybox cp -a /board /new/run/board
busybox cp /bin/busybox /new/run/busybox
for folder in proc sys dev; do busybox mount --move /$folder /new/$folder; done
exec busybox switch_root /new /usr/sbin/edgepack-board
"""

# The clock is read again and again: a board that was restored from a snapshot wakes up in the past.
_START = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /dev/pts /dev/shm /run/sshd
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
cat /run/board/hostname > /proc/sys/kernel/hostname
/usr/sbin/sshd -D -e -f /dev/null -o HostKey=/run/board/host_key -o AuthorizedKeysFile=/run/board/authorized_keys \\
  -o StrictModes=no -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no -o UsePAM=no -o UseDNS=no \\
  -o PidFile=none -o PrintLastLog=no -o AllowUsers=USER -o 'Subsystem=sftp internal-sftp' &
while :; do /run/busybox hwclock -s -u; /run/busybox sleep 10; done
"""


@dataclass(frozen=True)
class Image:
    """Files that no board changes. disk: raw, ext4; initrd: without what a board adds"""

    kernel: Path
    initrd: Path
    disk: Path


def ensure(progress: Progress) -> Image:
    """The image, from the cache or built now. Raises BoardError where apt or a tool fails."""
    root = rootfs.ensure(progress)
    key = digest.hex_of(digest.of_value([_RECIPE, root.name, _PACKAGES, _MODULES, _INIT, _START]))[:16]
    cache = home() / "cache" / "machine"
    folder = cache / key
    with record.lock(cache / ".lock"):
        if not folder.is_dir():
            for stale in cache.glob(
                ".building-*"
            ):  # a build that was killed; nobody else builds while we hold the lock
                shutil.rmtree(stale)
            with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as work:
                _build(Path(work), root, progress).replace(folder)
    return Image(folder / "kernel", folder / "initrd", folder / "disk")


def _build(work: Path, root: Path, progress: Progress) -> Path:
    with progress.step("fetching an arm64 kernel and SSH server (apt-get)"):
        archives = rootfs.fetch_beyond(work, _PACKAGES, progress)
    built, kernel, tools, copy = (work / name for name in ("built", "kernel", "tools", "root"))
    for path in (built, kernel, tools):
        path.mkdir()
    with progress.step("making the machine's disk"):
        must(["cp", "-a", "--reflink=auto", str(root), str(copy)], "copying arm64 Debian")
        for archive in archives:
            if archive.name.startswith("linux-image"):
                must(["dpkg-deb", "--extract", str(archive), str(kernel)], "unpacking the kernel")
            elif archive.name.startswith("busybox"):
                must(["dpkg-deb", "--extract", str(archive), str(tools)], "unpacking busybox")
            elif not archive.name.startswith(_NOT_UNPACKED):
                rootfs.unpack(archive, copy)
        _furnish(copy)
        _disk(copy, built / "disk")
        shutil.copyfile(_only(kernel, "boot/vmlinuz-*"), built / "kernel")
        (built / "initrd").write_bytes(_initrd(kernel, _only(tools, "bin/busybox")))
    return built


def _furnish(root: Path) -> None:
    must(["ldconfig", "-r", str(root)], "listing the board's libraries")
    start = root / "usr/sbin/edgepack-board"
    start.write_text(_START.replace("USER", rootfs.USER))
    start.chmod(0o755)
    for note in (root / "etc/edgepack-board", root / "home" / rootfs.USER / ".edgepack-board"):
        note.write_text("machine\n")


def _disk(root: Path, path: Path) -> None:
    with path.open("wb") as file:
        os.truncate(file.fileno(), _DISK_BYTES)
    must(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(path)], "making the machine's disk")


def _initrd(kernel: Path, busybox: Path) -> bytes:
    """A gzipped archive: /init, busybox, and the modules that lead to the disk and the network."""
    found = {_plain(path.name): path for path in kernel.rglob("*.ko*")}
    modules = [name for name in (f"{module}.ko" for module in _MODULES) if name in found]
    entries = [
        cpio.Entry("bin"),
        cpio.Entry("bin/busybox", busybox.read_bytes()),
        cpio.Entry("init", _INIT.encode()),
        cpio.Entry("modules"),
        *(cpio.Entry(f"modules/{name}", _module(found[name])) for name in modules),
        cpio.Entry("modules/order", "".join(f"{name}\n" for name in modules).encode(), 0o644),
    ]
    return gzip.compress(cpio.archive(entries), mtime=0)


def _plain(name: str) -> str:
    return name.removesuffix(".xz")


def _module(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise BoardError(f"Debian's packages hold no {pattern}", advice="edgepack supports Debian 12 and 13 for this")
    return found[0]
