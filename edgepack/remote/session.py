"""An open connection to a board: its agent asked, blobs streamed to it, every command with a deadline and a cap."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import msgspec
import paramiko
from msgspec import Struct

from edgepack import digest
from edgepack.errors import BoardError, BugError, EdgepackError, GateError, InputError, TrustError
from edgepack.ports import Heard, Progress, Reply
from edgepack.protocol import AgentError, BlobPart, Empty, ReceiveReply, ReceiveRequest, Refusal
from edgepack.remote import commands
from edgepack.remote.endorsement import own_endorsement
from edgepack.remote.pyz import agent_pyz
from edgepack.target import Target

_CHUNK = 1 << 18
_CHANNEL_REQUEST = b"\x62"
_MOST_OUTPUT = 64 << 20
_MOST_STDERR = 1 << 16
_STALL = 60.0
_SLOWEST = 8 << 10
"""Bytes a second below which a link counts as broken."""
_SLOWEST_UNPACKING = 256 << 10
"""Bytes a second that the slowest board makes out of a delta."""
_BEAT = b'{"beat":'
"""How a line begins that tells how far the agent is; what follows the last of them is its answer."""
_GRACE = 5.0
"""Seconds that the agent, which keeps the same deadline, gets to say itself that it ran out of time."""
_ERRORS: dict[str, type[EdgepackError]] = {
    "input": InputError,
    "gate": GateError,
    "board": BoardError,
    "trust": TrustError,
    "bug": BugError,
}


@dataclass(frozen=True)
class Outgoing:
    """A blob to send from `part.offset` on. open: a fresh stream of all of its bytes."""

    part: BlobPart
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Output:
    """What a command on the board came to. code: -1 where it was killed or the connection was lost"""

    code: int
    out: bytes
    err: str


class Session:
    """One board over one SSH connection. Not for several threads at once."""

    def __init__(self, target: Target, transport: paramiko.Transport) -> None:
        self._target, self._transport = target, transport
        self._root = target.root or "~/.edgepack"
        self._digest = digest.hex_of(digest.of_bytes(agent_pyz()))
        self.bytes_sent = 0
        """Of blobs, by this session, whatever became of them."""

    def call(
        self, verb: str, request: Struct, reply: type[Reply], deadline: float, heard: Heard | None = None
    ) -> Reply:
        """Ask the agent, which is sent first where the board lacks it. deadline: seconds; heard: told what it says meanwhile.

        Raises the error class that a refusal names, BoardError where the board died, hung or has no Python of 3.9 or newer.
        """
        line = msgspec.json.encode(request) + b"\n"
        return self._ask(verb, lambda: iter((line,)), reply, deadline, heard)

    def send_blobs(self, blobs: Sequence[Outgoing], progress: Progress | None = None) -> int:
        """Stream blobs in one go; the bytes that were sent.

        The agent checks each digest. What arrives before a failure is kept there for the next time.
        """
        if not blobs:
            return 0
        size = sum(one.part.size - one.part.offset for one in blobs)
        line = msgspec.json.encode(ReceiveRequest(tuple(one.part for one in blobs))) + b"\n"
        deadline = 120 + size / _SLOWEST + sum(one.part.makes_size for one in blobs) / _SLOWEST_UNPACKING
        chunks = sum(-(-(one.part.size - one.part.offset) // _CHUNK) for one in blobs)

        def data() -> Iterator[bytes]:
            stream = self._counted(_stream(line, blobs))
            return progress.track(stream, f"sending {size / 1e6:.2f} MB", total=chunks + 1) if progress else stream

        return self._ask("receive", data, ReceiveReply, deadline).bytes

    def _counted(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        yield next(stream)  # the request itself
        for chunk in stream:
            yield chunk
            self.bytes_sent += len(chunk)

    def _ask(
        self,
        verb: str,
        data: Callable[[], Iterator[bytes]],
        reply: type[Reply],
        deadline: float,
        heard: Heard | None = None,
    ) -> Reply:
        command = commands.run_agent(self._root, self._digest, verb, deadline)
        output = self._run(command, data(), verb, deadline, heard)
        if output.code in (commands.NO_AGENT, commands.WANTS_SIGNED):
            self._install_agent(signed=output.code == commands.WANTS_SIGNED)
            output = self._run(command, data(), verb, deadline, heard)
        return self._decode(output, verb, reply)

    def _install_agent(self, *, signed: bool) -> None:
        command = commands.install_agent(self._root, self._digest, self._endorsement() if signed else "")
        output = self._run(command, iter((agent_pyz(),)), "the agent's arrival", 60.0)
        if output.code == commands.OLD_PYTHON:
            raise BoardError(
                f"{self._name}: its python3 is too old: {output.err.strip()}",
                expected="Python 3.9 or newer as `python3`",
                advice="install a newer Python on the board, or upgrade its system",
            )
        self._decode(output, "the agent's arrival", Empty)

    def _endorsement(self) -> str:
        found = own_endorsement()
        if found is None:
            raise TrustError(
                f"{self._name}: through this restricted key it takes a new agent only with a signature by a key that it trusts",
                expected=f"a signature of the agent {self._digest[:16]}… of this edgepack",
                advice="whoever holds such a key: edgepack agent sign --sign-key KEY -o FILE; here: edgepack agent add FILE",
            )
        return found.argument()

    @property
    def _name(self) -> str:
        return f"target {self._target.name!r}"

    def _run(
        self, command: str, data: Iterator[bytes], what: str, deadline: float, heard: Heard | None = None
    ) -> Output:
        limit = time.monotonic() + deadline + _GRACE
        try:
            channel = self._transport.open_session(timeout=min(deadline, _STALL))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._lost(what, str(error)) from None
        try:
            channel.settimeout(min(_STALL, deadline + _GRACE))
            _begin(channel, command)
            _feed(channel, data)
            _ensure_begun(channel, limit)
            return _collect(channel, limit, heard)
        except TimeoutError:
            raise BoardError(
                f"{self._name} hangs: no end of {what} within {deadline:.0f} s",
                expected="an answer",
                advice="look at the board (load, memory, disk); then run this again: it goes on where it was",
            ) from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._lost(what, str(error)) from None
        finally:
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):  # the connection died a moment ago
                channel.close()

    def _decode(self, output: Output, what: str, reply: type[Reply]) -> Reply:
        # A login shell may have printed its greeting first: the agent's one line is the last.
        line = (output.out.rstrip().splitlines() or [b""])[-1]
        if output.code not in (0, 1) or not line.startswith(b"{"):
            self._explain(output, what)
        with contextlib.suppress(msgspec.ValidationError):
            refusal = msgspec.json.decode(line, type=Refusal).error
            raise self._refused(refusal)
        try:
            return msgspec.json.decode(line, type=reply)
        except msgspec.DecodeError as error:
            raise BugError(f"{self._name}: the agent's answer to {what} cannot be read: {error}") from None

    def _refused(self, refusal: AgentError) -> EdgepackError:
        what = f"{self._name}: {refusal.what}"
        return _ERRORS[refusal.kind](what, expected=refusal.expected, advice=refusal.advice)

    def _explain(self, output: Output, what: str) -> NoReturn:
        said = output.err.strip()[-1500:]
        if output.code == 127:
            raise BoardError(
                f"{self._name} has no python3 ({said or 'command not found'})",
                expected="Python 3.9 or newer as `python3` on the PATH of an SSH command",
                advice="install it with the board's package manager, for example apt install python3",
            )
        if output.code == -1 or output.code > 128:
            died = "the connection was lost or it was killed" if output.code == -1 else f"signal {output.code - 128}"
            raise BoardError(
                f"{self._name}: {what} ended without an answer: {died}{': ' + said if said else ''}",
                advice="look whether the board ran out of memory or rebooted; then run this again",
            )
        if "Traceback" in said:
            raise BugError(f"{self._name}: the agent failed in {what}: {said}")
        raise BoardError(
            f"{self._name}: {what} ended with {output.code}: {said or output.out[-300:].decode('utf-8', 'replace')}",
            expected="the agent's answer",
            advice="look at what a command prints on that board: ssh it and run `true`",
        )

    def _lost(self, what: str, why: str) -> BoardError:
        return BoardError(
            f"{self._name}: the connection was lost during {what}: {why or 'closed'}",
            advice="run this again: it goes on where it was",
        )


def _begin(channel: Any, command: str) -> None:
    """Ask for a command, whose input may follow at once (RFC 4254 §6.5): a round trip less than waiting for its go.

    Paramiko's own `exec_command` waits for that, and for ever where it never comes.
    """
    message = paramiko.Message()
    message.add_byte(_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("exec")
    message.add_boolean(True)
    message.add_string(command)
    channel._event_pending()
    channel.transport._send_user_message(message)


def _ensure_begun(channel: Any, limit: float) -> None:
    """Raises SSHException where the server refused to run the command, TimeoutError where it has not said so by the limit."""
    if not channel.event.wait(max(0.01, limit - time.monotonic())):
        raise TimeoutError
    if not channel.event_ready:
        raise channel.transport.get_exception() or paramiko.SSHException("the server refused to run a command")


def _feed(channel: paramiko.Channel, data: Iterator[bytes]) -> None:
    """Send everything, unless the command ends before: then its answer says why."""
    try:
        for chunk in data:
            channel.sendall(chunk)
        channel.shutdown_write()
    except TimeoutError:
        raise
    except OSError:
        if not channel.closed and not channel.exit_status_ready():
            raise


def _collect(channel: paramiko.Channel, limit: float, heard: Heard | None) -> Output:
    """Standard output to its end, then the exit status and standard error. Raises TimeoutError at the limit.

    heard: gets every whole line that is a beat as it comes; the output is what remains
    """
    out = bytearray()
    while len(out) < _MOST_OUTPUT:
        channel.settimeout(max(0.01, limit - time.monotonic()))
        data = channel.recv(_CHUNK)
        if not data:
            break
        out += data
        if heard is not None:
            out = _tell(out, heard)
    if not channel.status_event.wait(max(0.01, limit - time.monotonic())):
        raise TimeoutError
    err = channel.recv_stderr(_MOST_STDERR) if channel.recv_stderr_ready() else b""
    return Output(channel.exit_status, bytes(out), err.decode("utf-8", "replace"))


def _tell(out: bytearray, heard: Heard) -> bytearray:
    *lines, rest = out.split(b"\n")
    kept = bytearray()
    for line in lines:
        if line.startswith(_BEAT):
            heard(bytes(line))
        else:
            kept += line + b"\n"
    return kept + rest


def _stream(line: bytes, blobs: Sequence[Outgoing]) -> Iterator[bytes]:
    yield line
    for one in blobs:
        left = one.part.size - one.part.offset
        with one.open() as file:
            file.seek(one.part.offset)
            while left:
                chunk = file.read(min(_CHUNK, left))
                if not chunk:
                    raise TrustError(f"{one.part.digest} ended {left} bytes early", advice="build the bundle again")
                yield chunk
                left -= len(chunk)
