"""A slow link without the kernel's help: two TAP devices, one in a network namespace of its own, and a bridge between them.

    python benchmarks/link.py NAMESPACE ADDRESS DELAY_MS MBIT      as root; ends with its standard input

The bridge holds each frame back for DELAY_MS (half a round trip) and lets MBIT megabits a second pass each way (0: all that
come). ADDRESS is this side's, the other side's is the next one.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from ipaddress import ip_address

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_FRAME = 9100
_MTU = "8900"
_QUEUE_SECONDS = 2.0


def tap(name: str) -> int:
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return handle


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def plug_in(namespace: str, address: str) -> tuple[int, int]:
    near, far = f"{namespace}a", f"{namespace}b"
    handles = tap(near), tap(far)
    ip("netns", "add", namespace)
    ip("link", "set", far, "netns", namespace)
    for prefix, name, own in (((), near, address), (("-n", namespace), far, str(ip_address(address) + 1))):
        ip(*prefix, "addr", "add", f"{own}/30", "dev", name)
        ip(*prefix, "link", "set", name, "mtu", _MTU, "txqueuelen", "10000", "up")
    ip("-n", namespace, "link", "set", "lo", "up")
    return handles


def carry(handles: tuple[int, int], delay: float, rate: float) -> None:
    """Until standard input ends. delay: seconds; rate: bytes a second, 0 for no limit."""
    waiting: dict[int, deque[tuple[float, bytes]]] = {handle: deque() for handle in handles}
    other = {handles[0]: handles[1], handles[1]: handles[0]}
    free = dict.fromkeys(handles, 0.0)
    while True:
        now = time.monotonic()
        for handle, queue in waiting.items():
            while queue and queue[0][0] <= now:
                os.write(handle, queue.popleft()[1])
        due = min((queue[0][0] for queue in waiting.values() if queue), default=now + 1.0)
        ready, _, _ = select.select([0, *handles], [], [], max(0.0, due - time.monotonic()))
        if 0 in ready and not os.read(0, 64):
            return
        for handle in ready:
            if handle == 0:
                continue
            to = other[handle]
            for _ in range(64):
                try:
                    frame = os.read(handle, _FRAME)
                except BlockingIOError:
                    break
                now = time.monotonic()
                if rate:
                    start = max(now, free[to])
                    if start - now > _QUEUE_SECONDS:
                        continue  # a router drops what its queue cannot hold
                    free[to] = start + len(frame) / rate
                    waiting[to].append((free[to] + delay, frame))
                else:
                    waiting[to].append((now + delay, frame))


def main() -> None:
    namespace, address, delay, mbit = sys.argv[1:5]
    try:
        handles = plug_in(namespace, address)
        print("ready", flush=True)
        carry(handles, float(delay) / 1e3, float(mbit) * 125_000)
    finally:
        subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
