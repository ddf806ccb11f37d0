"""A root shaped like an Android phone with Termux, made out of arm64 Debian: the same programs under Termux's prefix.

It is a stand-in on Debian's C library: it tests paths and permissions, not Android's own C library, linker or SELinux.
What holds there as on a phone: everything lies below /data/data/com.termux/files and belongs to an app's own user; there is no
/usr, /bin, /tmp, /home or /etc/os-release; /data cannot be listed; `getprop` says what the device is. The one thing that a phone
has not is /lib, where Debian's programs look for their loader.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgepack import lock
from edgepack.boards import layout
from edgepack.boards.host import must
from edgepack.errors import BoardError
from edgepack.home import shipped
from edgepack.lock import RuntimeLock

ANDROID = "14"
RUNTIME = "onnxruntime"

_GONE = ("usr", "bin", "sbin", "tmp", "home", "root", "var", "run", "opt", "srv", "mnt", "media", "boot")
_GETPROP = """#!{prefix}/bin/sh
case $1 in
ro.build.version.release) echo {android} ;;
ro.product.manufacturer) echo edgepack ;;
ro.product.model) echo {model} ;;
esac
"""


def reshape(root: Path, model: str) -> None:
    """Turn the Debian below `root` into a phone's file system. model: what `getprop ro.product.model` says."""
    files = root / layout.TERMUX_FILES
    files.mkdir(parents=True)
    (root / "usr").rename(files / "usr")
    (root / "lib").unlink()
    for name in _GONE:
        path = root / name
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    (root / "lib").symlink_to(Path(layout.TERMUX_FILES, "usr/lib"))
    for name in ("tmp", "etc", "var"):
        (files / "usr" / name).mkdir(exist_ok=True)
    (files / "home").mkdir()
    (files / "home" / ".edgepack-board").write_text("emulated\n")
    (root / "system/bin").mkdir(parents=True)
    getprop = files / "usr/bin/getprop"
    getprop.write_text(_GETPROP.format(prefix=f"/{layout.TERMUX_FILES}/usr", android=ANDROID, model=json.dumps(model)))
    getprop.chmod(0o755)
    _accounts(root)
    for name in ("os-release", "debian_version", "issue", "issue.net", "profile"):
        (root / "etc" / name).unlink(missing_ok=True)
    must(["ldconfig", "-r", str(root)], "listing the board's libraries")


def runtime_of(python: str) -> RuntimeLock:
    """The wheels that stand for what `pkg install` brings on a phone. python: `3.11`. Raises BoardError where none are known."""
    path = shipped("profiles") / "locks" / f"{RUNTIME}-cp{python.replace('.', '')}-aarch64.json"
    if not path.is_file():
        raise BoardError(f"edgepack knows no {RUNTIME} for the board's Python {python}", expected=str(path))
    return lock.decode(path.read_bytes(), str(path))


def own(root: Path) -> None:
    """Give the app its folder, and close /data as Android does. Last: what is written afterwards belongs to root."""
    who = f"{layout.TERMUX.number}:{layout.TERMUX.number}"
    must(["chown", "-hR", who, str(root / layout.TERMUX_FILES)], "giving the app its folder")
    for path in (root / "data", root / "data/data", (root / layout.TERMUX_FILES).parent):
        path.chmod(0o711)


def _accounts(root: Path) -> None:
    """The app's user alone: on a phone nobody else has a name that it may see."""
    app = layout.TERMUX
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/:/system/bin/sh\n"
        "sshd:x:101:65534::/:/system/bin/sh\n"
        f"{app.user}:x:{app.number}:{app.number}::{app.home}:{app.shell}\n"
    )
    (root / "etc/group").write_text(f"root:x:0:\nnogroup:x:65534:\n{app.user}:x:{app.number}:\n")
    (root / "etc/shadow").write_text("".join(f"{name}:*:19000:0:99999:7:::\n" for name in ("root", "sshd", app.user)))
