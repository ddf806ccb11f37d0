"""A loopback board as a bastion: connections that a client asks it to open further, as `ssh -J` does."""

from __future__ import annotations

import contextlib
import socket
import threading

import paramiko

_CHUNK = 1 << 17


def join(channel: paramiko.Channel, link: socket.socket) -> None:
    """Carry bytes both ways until both sides have said that no more come; one end's loss ends the other."""
    back = threading.Thread(target=_backward, args=(channel, link), daemon=True)
    back.start()
    with contextlib.suppress(OSError):
        while data := channel.recv(_CHUNK):
            link.sendall(data)
        link.shutdown(socket.SHUT_WR)
    back.join()
    channel.close()
    link.close()


def _backward(channel: paramiko.Channel, link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := link.recv(_CHUNK):
            channel.sendall(data)
        channel.shutdown_write()
        return
    with contextlib.suppress(OSError):  # one side broke off: the other must not wait for it
        link.shutdown(socket.SHUT_RDWR)
    channel.close()
