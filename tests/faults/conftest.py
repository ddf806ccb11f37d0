"""Faults on purpose, each run seeded: what they are done to, how many, and what is counted.

EDGEPACK_FAULTS=long asks for the amounts of `scripts/soak`, EDGEPACK_FAULTS_SEED for another seed, EDGEPACK_FAULTS_AMOUNTS (JSON)
for other amounts by name; the counts go to the file EDGEPACK_FAULTS_REPORT.
"""

from __future__ import annotations

import io
import json
import os
import platform
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import Struct, structs

from edgepack import actions, boards, digest, files
from edgepack.actions import Activate, Content, FromLock, Install, Provide, Send, Wish
from edgepack.bundle import Bundle, pack, write_golden
from edgepack.device import facts, journal, store
from edgepack.lock import RuntimeLock, Wheel
from edgepack.protocol import ActivateRequest, BlobPart, Facts, ReceiveRequest, RemoveRequest, RollbackRequest
from edgepack.remote import agent_pyz
from tests.manifests import manifest_of, variant_of

# name: (in every test run, in the long run)
AMOUNTS = {
    "random kills of the agent": (8, 500),
    "kills at named states": (6, 10_000),
    "random kills of the controller": (2, 200),
    "power cuts": (0, 50),
    "cuts of the connection": (4, 106),
    "stalls of the connection": (1, 6),
    "flaps of the connection": (2, 50),
    "pushes over a slow link": (0, 4),
    "errors of the disk": (8, 10_000),
    "full disks": (4, 60),
    "flipped bits in what is sent": (5, 400),
    "flipped bits on the board's disk": (4, 100),
    "races of two controllers": (2, 50),
    "clean-ups beside an install": (3, 100),
    "wrong clocks": (4, 40),
    "fuzzed manifests": (3_000, 1_000_000),
    "fuzzed bundles": (60, 5_000),
    "fuzzed requests": (1_500, 200_000),
    "extreme sizes": (1, 4),
}
PYTHON = getattr(sys, "_base_executable", sys.executable)
PROFILE = boards.default_profile("loopback")

# A runtime as small as one can be: its answer is x @ ones + the model's first four bytes. The rest of the model is weight.
RUNTIME = """
import struct
import numpy
__version__ = "1.20.0"
class SessionOptions: pass
class RunOptions: pass
class Node:
    def __init__(self, name, shape): self.name, self.type, self.shape = name, "tensor(float)", shape
class Binding:
    def bind_cpu_input(self, name, array): self.x = array
    def bind_output(self, name, device): pass
    def copy_outputs_to_cpu(self): return [self.y]
class InferenceSession:
    def __init__(self, path, options, providers):
        with open(path, "rb") as file:
            self.bias, = struct.unpack("<f", file.read(4))
    def get_inputs(self): return [Node("x", [1, 4])]
    def get_outputs(self): return [Node("y", [1, 3])]
    def io_binding(self): return Binding()
    def run_with_iobinding(self, binding):
        binding.y = (binding.x @ numpy.ones((4, 3), "float32") + numpy.float32(self.bias)).astype("float32")
"""

# Runs the agent and does what its first argument says, in JSON, at one named state: a call that changes the disk, and its path.
HOOK = r"""
import builtins, errno, io, json, os, re, runpy, signal, sys, time
plan = json.loads(sys.argv[1])
sys.argv = sys.argv[2:]
root = os.path.abspath(sys.argv[2])
seen = {}
def name(call, path):
    if isinstance(path, int):
        try: path = os.readlink("/proc/self/fd/%d" % path)
        except OSError: path = "?"
    path = os.path.relpath(os.path.abspath(os.fspath(path)), root)
    path = re.sub(r"[0-9a-f]{64}", lambda found: found.group()[:6], path)
    path = re.sub(r"\.\d+(?=/|$)", ".PID", path)
    state = call + " " + path
    seen[state] = seen.get(state, 0) + 1
    return state if seen[state] == 1 else "%s (%d)" % (state, seen[state])
def act(state, when):
    if plan.get("at") != state or plan.get("when", "before") != when:
        return
    if plan.get("errno"):
        raise OSError(plan["errno"], os.strerror(plan["errno"]), state)
    os.kill(os.getpid(), signal.SIGKILL)
def note(state):
    if "log" in plan:
        with real_open(plan["log"], "a") as file:
            file.write(state + "\n")
def wrapped(call, real, at=0):
    def go(*args, **options):
        state = name(call, args[at])
        note(state)
        act(state, "before")
        try:
            return real(*args, **options)
        finally:
            act(state, "after") if not plan.get("errno") else None
    return go
class File:
    def __init__(self, file, path): self.__dict__.update(file=file, path=path)
    def __getattr__(self, one): return getattr(self.file, one)
    def __enter__(self): return self
    def __exit__(self, *rest): self.file.close()
    def __iter__(self): return iter(self.file)
    def write(self, data):
        state = name("write", self.path)
        note(state)
        act(state, "before")
        count = self.file.write(data)
        if plan.get("at") == state and not plan.get("errno"):
            self.file.flush()
        act(state, "after") if not plan.get("errno") else None
        return count
real_open = builtins.open
def opened(path, mode="r", *rest, **options):
    if not set(mode) & set("wax+") or isinstance(path, int) or not os.path.abspath(path).startswith(root):
        return real_open(path, mode, *rest, **options)
    state = name("open", path)
    note(state)
    act(state, "before")
    return File(real_open(path, mode, *rest, **options), path)
if plan.get("at") or "log" in plan:
    builtins.open = opened
    for call, at in (("replace", 1), ("rename", 1), ("link", 1), ("symlink", 1), ("unlink", 0), ("rmdir", 0), ("fsync", 0),
                     ("mkdir", 0), ("chmod", 0)):
        setattr(os, call, wrapped(call, getattr(os, call), at))
if "clock" in plan:
    shift = plan["clock"] - time.time()
    real_time = time.time
    time.time = lambda: real_time() + shift
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass
class Tally:
    """What was done and what came of it, by row."""

    rows: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, row: str, **counts: int) -> None:
        mine = self.rows.setdefault(row, {"faults": 0, "bad": 0})
        for key, value in counts.items():
            mine[key] = max(mine.get(key, 0), value) if key.startswith("most_") else mine.get(key, 0) + value
        self.write()

    def write(self) -> None:
        """After every fault: a run of hours that is ended has counted for something."""
        if report := os.environ.get("EDGEPACK_FAULTS_REPORT"):
            files.replace(Path(report), json.dumps({"seed": SEED, "rows": self.rows}, indent=1).encode())

    @contextmanager
    def fault(self, row: str, **counts: int) -> Iterator[None]:
        """One fault and the look at what it left; an assertion that fails in here is a bad state."""
        try:
            yield
        except AssertionError:
            self.add(row, bad=1)
            raise
        finally:
            self.add(row, faults=1, **counts)


TALLY = Tally()
SEED = int(os.environ.get("EDGEPACK_FAULTS_SEED", "1"))


def pytest_report_header() -> str:
    return f"faults: EDGEPACK_FAULTS_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not TALLY.rows:
        return
    terminalreporter.section(f"faults, seed {SEED}")
    for row, counts in TALLY.rows.items():
        terminalreporter.write_line(f"{row}: " + ", ".join(f"{key} {value}" for key, value in counts.items()))


@pytest.fixture(scope="session")
def tally() -> Tally:
    return TALLY


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of this test's own, the same for the same seed."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="session")
def amount() -> Callable[[str], int]:
    """How many of a fault this run wants; a test of none is skipped."""
    own = json.loads(os.environ.get("EDGEPACK_FAULTS_AMOUNTS", "{}"))
    assert set(own) <= set(AMOUNTS), f"EDGEPACK_FAULTS_AMOUNTS: {set(own) - set(AMOUNTS)}"
    long = os.environ.get("EDGEPACK_FAULTS") == "long"

    def count(name: str) -> int:
        wanted = int(own.get(name, AMOUNTS[name][long]))
        if not wanted:
            pytest.skip(f"{name}: only in the long run, scripts/soak")
        return wanted

    return count


@dataclass(frozen=True)
class Steps:
    """The requests of one push, as the planner makes them. blobs: the bytes of each part, whole"""

    send: ReceiveRequest
    blobs: dict[str, bytes]
    provide: Struct
    install: Struct
    activate: ActivateRequest

    @property
    def data(self) -> bytes:
        return b"".join(self.blobs[part.digest][part.offset :] for part in self.send.blobs)

    def verbs(self) -> tuple[tuple[str, Struct, bytes], ...]:
        return (
            ("receive", self.send, self.data),
            ("runtime", self.provide, b""),
            ("install", self.install, b""),
            ("activate", self.activate, b""),
        )


@dataclass(frozen=True)
class Run:
    """One run of the agent. sent: bytes that it was given"""

    code: int
    reply: dict[str, Any]
    sent: int
    stderr: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass(frozen=True)
class Rig:
    """A board's root without SSH: the agent as a process of its own, and a hook in it that knows its states."""

    root: Path
    tools: Path

    def run(
        self,
        verb: str,
        request: Struct | None = None,
        data: bytes = b"",
        hook: dict[str, Any] | None = None,
        kill_after: float | None = None,
        seconds: int = 300,
        raw: bool = False,
    ) -> Run:
        """hook: what HOOK is told. kill_after: seconds until kill -9. raw: `data` is all it reads"""
        pyz = str(self.tools / "agent.pyz")
        front = [str(self.tools / "hook.py"), json.dumps(hook), pyz] if hook else [pyz]
        command = [PYTHON, "-I", "-S", *front, verb, str(self.root), str(seconds)]
        line = b"" if raw else (msgspec.json.encode(request) if request else b"{}") + b"\n"
        sent = 0
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        assert process.stdin and process.stdout and process.stderr
        killer = threading.Timer(3600 if kill_after is None else max(0.0, kill_after), process.kill)
        killer.start()
        with process.stdin, suppress(BrokenPipeError):  # it answered before it had read all, or is dead
            process.stdin.write(line)
            while sent < len(data):
                sent += process.stdin.write(data[sent : sent + (1 << 16)])
        with process.stdout, process.stderr:
            out, err = process.stdout.read(), process.stderr.read()
        code = process.wait()
        killer.cancel()
        reply = json.loads(out.splitlines()[-1]) if code in (0, 1) and out else {}
        return Run(code, reply, sent, err.decode())

    def raw(self, verb: str, data: bytes) -> Run:
        return self.run(verb, None, data, raw=True)

    def ok(self, verb: str, request: Struct | None = None, data: bytes = b"", **options: Any) -> dict[str, Any]:
        done = self.run(verb, request, data, **options)
        assert done.code == 0, (verb, done)
        return done.reply

    def push(self, steps: Steps) -> dict[str, Any]:
        """Go on where the board is, to the end."""
        steps = self.resumed(steps)
        replies = [self.ok(verb, request, data) for verb, request, data in steps.verbs() if verb != "receive" or data]
        return replies[-1]

    def resumed(self, steps: Steps) -> Steps:
        """The same push, planned again with what the board has now."""
        states = {one["digest"]: one for one in self.states(tuple(steps.blobs))}
        parts = [
            structs.replace(part, offset=states[part.digest]["bytes"])
            for part in steps.send.blobs
            if not states[part.digest]["complete"]
        ]
        expected = structs.replace(steps.activate, expected=self.active(steps.activate.name))
        return replace(steps, send=ReceiveRequest(tuple(parts)), activate=expected)

    def states(self, digests: tuple[str, ...]) -> list[dict[str, Any]]:
        from edgepack.device import receive

        return receive.states(str(self.root), digests, True)

    def copy(self, folder: Path) -> Rig:
        subprocess.run(["cp", "-a", self.root, folder], check=True)  # a release's files stay links to the blobs
        return replace(self, root=folder)

    def active(self, name: str = "sum") -> str:
        return store.active(str(self.root), name)

    def assert_whole(self, *allowed: str, name: str = "sum") -> None:
        """`current` resolves to one of the releases, and every file of it hashes to what its manifest says."""
        link = self.root / "current" / name
        if link.is_symlink():
            link.resolve(strict=True)
        assert self.active(name) in allowed, f"{self.active(name) or 'nothing'} is active"
        for release in facts.releases_of(str(self.root), "", True):
            if release["active"]:
                assert release["verified"] is True, release
        assert journal.check(str(self.root)).intact, "the log is broken"
        state = json.loads((self.root / "state.json").read_text()) if (self.root / "state.json").exists() else None
        assert state is None or "names" in state

    def states_of(self, verb: str, request: Struct, data: bytes, folder: Path) -> list[str]:
        """The names of a verb's states, in order. It is done on a copy."""
        log = folder / f"states-{verb}"
        log.write_text("")
        one = self.copy(folder / f"list-{verb}")
        one.ok(verb, request, data, hook={"log": str(log)})
        shutil.rmtree(one.root)
        return log.read_text().splitlines()


MakeRelease = Callable[..., Bundle]


@pytest.fixture(scope="session")
def lock(test_home: Path) -> RuntimeLock:
    return lock_of(tiny_wheel(test_home, "1.20.0"))


@pytest.fixture(scope="session")
def next_lock(test_home: Path) -> RuntimeLock:
    """A newer runtime, which the update brings along."""
    return lock_of(tiny_wheel(test_home, "1.20.1"))


def tiny_wheel(home: Path, version: str) -> Wheel:
    """The tiny runtime, and this host's numpy for boards that are this host; kept where edgepack keeps wheels."""
    name = f"tinyruntime-{version}-py3-none-any.whl"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in {
            "onnxruntime/__init__.py": RUNTIME.replace("1.20.0", version),
            "onnxruntime/capi/__init__.py": "",
            "onnxruntime/capi/onnxruntime_pybind11_state.py": "",
            "host.pth": str(Path(np.__file__).parent.parent) + "\n",
            f"onnxruntime-{version}.dist-info/METADATA": f"Name: onnxruntime\nVersion: {version}\n",
        }.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    data = buffer.getvalue()
    kept = home / "wheels/sha256" / digest.hex_of(digest.of_bytes(data)) / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return Wheel("tinyruntime", version, name, digest.of_bytes(data), len(data))


def lock_of(wheel: Wheel) -> RuntimeLock:
    libc, version = platform.libc_ver()
    return RuntimeLock(
        runtime="onnxruntime",
        version=wheel.version,
        python=f"{sys.version_info[0]}.{sys.version_info[1]}",
        machine=platform.machine(),
        libc=libc or "musl",
        needs_glibc=version,
        wheels=(wheel,),
    )


@pytest.fixture(scope="session")
def make_release(lock: RuntimeLock, tmp_path_factory: pytest.TempPathFactory) -> MakeRelease:
    """make_release(version, size=…): a bundle whose model is `size` random bytes, for the tiny runtime."""

    def make(
        version: str,
        *,
        name: str = "sum",
        size: int = 1 << 20,
        profile: str = PROFILE,
        locks: tuple[RuntimeLock, ...] | None = None,
    ) -> Bundle:
        bias = float(sum(version.encode()))
        x = np.arange(12, dtype=np.float32).reshape(3, 4)
        golden = write_golden((x,), (x @ np.ones((4, 3), np.float32) + np.float32(bias),))
        model = struct.pack("<f", bias) + random.Random(version + name).randbytes(size - 4)
        locks = (lock,) if locks is None else locks
        variant = variant_of(f"{name}.{profile}.fp32.onnx", model, golden)
        manifest = manifest_of(name, version, profile, [variant], locks)
        packed = [digest.canonical_json(one) for one in locks]
        blobs = {digest.of_bytes(data): data for data in (model, golden, *packed)}
        return pack(manifest, blobs, tmp_path_factory.mktemp("bundle"))

    return make


@pytest.fixture(scope="session")
def plan(test_home: Path) -> Callable[[Rig, Bundle], Steps]:
    """The planner's own requests for a push of everything to a board."""

    def make(rig: Rig, bundle: Bundle) -> Steps:
        (lock,) = bundle.locks
        manifest = bundle.manifest
        content = Content(
            digest=bundle.digest,
            manifest=manifest,
            manifest_digest=digest.of_bytes(bundle.manifest_bytes),
            manifest_size=len(bundle.manifest_bytes),
        )
        said = msgspec.convert(rig.ok("facts"), Facts)
        wish = Wish(target="t", profiles=(manifest.profile.name,), machine=said.machine, allow_unsigned=True)
        wish = structs.replace(wish, who="one@host", downgrade=True)
        bare = structs.replace(said, runtimes=(), highest={})
        send, provide, install, activate = actions.plan_push(
            content, wish, bare, manifest.variants[0], {lock.runtime: FromLock(lock)}
        )
        assert isinstance(send, Send) and isinstance(provide, Provide)
        assert isinstance(install, Install) and isinstance(activate, Activate)
        (wheel,) = lock.wheels
        kept = test_home / "wheels/sha256" / digest.hex_of(wheel.digest) / wheel.filename
        sources = {wheel.digest: kept.read_bytes(), content.manifest_digest: bundle.manifest_bytes}
        blobs = {p.digest: sources.get(p.digest) or bundle.open_blob(p.digest).read() for p in send.parts}
        whole = tuple(BlobPart(part.digest, part.size) for part in send.parts)
        return Steps(ReceiveRequest(whole), blobs, provide.request, install.request, activate.request)

    return make


@dataclass(frozen=True)
class Updating:
    """A board that runs `old`, and the steps to `new`, none of them done."""

    rig: Rig
    old: str
    steps: Steps
    golden: str
    profile: str = PROFILE

    @property
    def new(self) -> str:
        return self.steps.activate.release

    def copy(self, folder: Path) -> Updating:
        return replace(self, rig=self.rig.copy(folder))


@pytest.fixture(scope="session")
def template(
    make_release: MakeRelease,
    next_lock: RuntimeLock,
    plan: Callable[[Rig, Bundle], Steps],
    tmp_path_factory: pytest.TempPathFactory,
) -> Updating:
    tools = tmp_path_factory.mktemp("tools")
    (tools / "agent.pyz").write_bytes(agent_pyz())
    (tools / "hook.py").write_text(HOOK)
    rig = Rig(tmp_path_factory.mktemp("board") / "root", tools)
    old = make_release("1.0.0")
    rig.push(plan(rig, old))
    assert rig.active() == old.digest
    new = make_release("1.1.0", size=4 << 20, locks=(next_lock,))
    return Updating(rig, old.digest, plan(rig, new), new.manifest.variants[0].golden)


@pytest.fixture(scope="session")
def rig_at(template: Updating) -> Callable[[Path], Rig]:
    """The agent over any root."""
    return lambda root: replace(template.rig, root=root)


@pytest.fixture
def updating(template: Updating, tmp_path: Path) -> Updating:
    return template.copy(tmp_path / "root")


@dataclass(frozen=True)
class Stage:
    """The board before a verb of a push. states: the names of what the verb goes through; allowed: what may be active then"""

    before: Updating
    verb: str
    states: tuple[str, ...]
    request: Struct
    data: bytes
    allowed: tuple[str, ...]


@pytest.fixture(scope="session")
def stages(template: Updating, tmp_path_factory: pytest.TempPathFactory) -> list[Stage]:
    """Every verb in its turn, on boards that are only ever copied."""
    folder = tmp_path_factory.mktemp("stages")
    found = []
    one = template.copy(folder / "first")
    for verb in ("receive", "runtime", "install", "activate", "rollback", "remove"):
        request, data, allowed = _case_of(one, verb)
        states = tuple(one.rig.states_of(verb, request, data, folder))
        found.append(Stage(one, verb, states, request, data, allowed))
        after = one.copy(folder / f"after-{verb}")
        after.rig.ok(verb, request, data)
        one = after
    return found


def _case_of(one: Updating, verb: str) -> tuple[Struct, bytes, tuple[str, ...]]:
    """A verb's request, its bytes, and what may be active whatever happens."""
    match verb:
        case "rollback":
            return RollbackRequest(name="sum", leave=one.new), b"", (one.old, one.new)
        case "remove":
            return RemoveRequest(name="sum"), b"", (one.old, "")
        case "activate":
            return one.steps.activate, b"", (one.old, one.new)
        case "install":
            return one.steps.install, b"", (one.old,)
        case "runtime":
            return one.steps.provide, b"", (one.old,)
        case _:
            return one.steps.send, one.steps.data, (one.old,)
