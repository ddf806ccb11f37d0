"""Whether a board answers: a real login and a real command over SSH, as any command of edgepack will do it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import BoardError
from edgepack.target import Target

if TYPE_CHECKING:
    import paramiko


def wait(target: Target, alive: Callable[[], bool], log: Path, seconds: float) -> None:
    """Return when the board runs a command over SSH. Raises BoardError with the end of its log where it does not."""
    limit = time.monotonic() + seconds
    pause = 0.01
    reason = "nothing listens"
    while time.monotonic() < limit:
        if not alive():
            raise _failure(target, "its server ended", log)
        try:
            return greet(target, max(1.0, limit - time.monotonic()))
        except BoardError as error:
            reason = error.what
        time.sleep(pause)
        pause = min(0.2, pause * 1.5)
    raise _failure(target, f"no answer within {seconds:.0f} s ({reason})", log)


def greet(target: Target, seconds: float) -> None:
    """Log in and run `true`. Raises BoardError."""
    import paramiko

    try:
        with socket.create_connection((target.host, target.port), seconds) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(link)
            transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = seconds
            try:
                transport.start_client(timeout=seconds)
                transport.auth_publickey(target.user, paramiko.Ed25519Key.from_private_key_file(target.identity))
                _run_true(target, transport, seconds)
            finally:
                transport.close()
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise BoardError(f"board {target.name!r} does not answer: {error or type(error).__name__}") from None


def _run_true(target: Target, transport: paramiko.Transport, seconds: float) -> None:
    channel = transport.open_session(timeout=seconds)
    channel.settimeout(seconds)
    channel.exec_command("true")
    if not channel.status_event.wait(seconds) or channel.exit_status != 0:
        raise BoardError(f"board {target.name!r} lets us in but runs no command (exit {channel.exit_status})")


def _failure(target: Target, why: str, log: Path) -> BoardError:
    tail = log.read_text(errors="replace").strip().splitlines()[-8:] if log.exists() else []
    said = "\n".join(["", *tail]) if tail else ""
    return BoardError(
        f"board {target.name!r} did not come up: {why}{said}", advice=f"edgepack board down {target.name}"
    )
