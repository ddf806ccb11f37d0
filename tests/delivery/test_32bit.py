"""A 32-bit Raspberry Pi OS: the last tflite-runtime over Debian's numpy, delivered with a key that does nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import paramiko
import pytest

from edgepack import boards, delivery, digest, measure, remote, runtimes, signing, trust
from edgepack.boards import keys
from edgepack.bundle import Bundle, pack, write_golden
from edgepack.cli.progress import Plain
from edgepack.errors import TrustError
from edgepack.lock import RuntimeLock
from edgepack.profile import RuntimeRange
from edgepack.protocol import Facts, FactsRequest, RollbackReply, RollbackRequest, RuntimeReply, RuntimeRequest
from edgepack.remote import agent_pyz, commands, connect
from edgepack.report import BenchProtocol
from edgepack.target import Target
from edgepack.wheels import shipped_locks
from tests.manifests import manifest_of, variant_of

pytestmark = [pytest.mark.frameworks, pytest.mark.emulated, pytest.mark.network]
PROFILE = "rpi-32bit"
Kind = Literal["fp32", "w8a8"]


@pytest.fixture(scope="module")
def old(test_home: Path, progress: Plain) -> Iterator[Target]:
    (target,) = boards.up("old", "emulated", PROFILE, 1, progress)
    yield target
    boards.down("old", progress)


@pytest.fixture(scope="module")
def deploy(old: Target, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """The same board, with a key that was authorized for deliveries alone."""
    key = tmp_path_factory.mktemp("key") / "deploy"
    keys.make_pair(key)
    delivery.authorize(old, key.with_name("deploy.pub").read_text(), write=True)
    return msgspec.structs.replace(old, identity=str(key))


@pytest.fixture(scope="module")
def lock() -> RuntimeLock:
    return next(one for one in shipped_locks() if (one.runtime, one.machine) == ("tflite-runtime", "armv7l"))


def fully_connected(kind: Kind, bias: float) -> bytes:
    """y = x @ w + bias with w of (4, 3): in float32, or in int8 with a scale for each channel of the weights."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
    w = np.arange(12, dtype=np.float32).reshape(3, 4) / 4 - 1
    by_channel = np.abs(w).max(1) / 127
    scales: dict[str, list[float]] = {"x": [8 / 127], "w": by_channel.tolist(), "y": [0.25]}
    scales["b"] = (by_channel * np.float32(8 / 127)).tolist()
    values: dict[str, Any] = {"w": w, "b": np.full(3, bias, np.float32)}
    if kind == "w8a8":
        values["w"] = np.rint(w / by_channel[:, None]).astype(np.int8)
        values["b"] = np.rint(bias / np.array(scales["b"])).astype(np.int32)
    model, graph, code, step = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    model.buffers, graph.tensors = [schema.BufferT()], []
    for name, shape in (("x", [1, 4]), ("w", [3, 4]), ("b", [3]), ("y", [1, 3])):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), shape, 0
        if kind == "w8a8":
            tensor.type = 2 if name == "b" else 9
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = scales[name], [0] * len(scales[name])
        if name in values:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values[name].tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 5 if kind == "w8a8" else 1
    step.opcodeIndex, step.inputs, step.outputs = 0, [0, 1, 2], [3]
    step.builtinOptionsType, step.builtinOptions = (
        schema.BuiltinOptions.FullyConnectedOptions,
        schema.FullyConnectedOptionsT(),
    )
    graph.inputs, graph.outputs, graph.operators = [0], [3], [step]
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="module")
def make(lock: RuntimeLock, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """make(version): a bundle of an int8 and a float variant, whose golden outputs are the newest runtime's on this machine."""

    def bundle(version: str) -> Bundle:
        folder = tmp_path_factory.mktemp("bundle")
        x = np.linspace(-6, 6, 12, dtype=np.float32).reshape(3, 4)
        blobs = {digest.of_value(lock): digest.canonical_json(lock)}
        records = []
        for kind in ("w8a8", "fp32"):
            data = fully_connected(kind, float(version[0]))
            (folder / "m.tflite").write_bytes(data)
            run = runtimes.open_file(folder / "m.tflite", "tflite")
            golden = write_golden((x,), (np.concatenate([run((row[None],))[0] for row in x]),))
            blobs |= {digest.of_bytes(data): data, digest.of_bytes(golden): golden}
            tolerance = (0.26 if kind == "w8a8" else 1e-4,)
            records.append(
                variant_of(f"fc.{PROFILE}.{kind}.tflite", data, golden, runtime="tflite-runtime", tolerance=tolerance)
            )
        ranges = {"tflite-runtime": RuntimeRange(">=2.14,<2.15")}
        manifest = manifest_of("fc", version, PROFILE, records, [lock], runtimes=ranges)
        return pack(manifest, blobs, folder)

    return bundle


def push(bundle: Bundle, target: Target, *variants: str) -> delivery.PushResult:
    (result,) = delivery.push(
        bundle, [target], allow_unsigned=True, downgrade=False, variants=variants, progress=Plain()
    )
    return result


def test_int8_and_float_run_on_it_through_a_key_that_only_delivers(
    make: Callable[[str], Bundle], deploy: Target, lock: RuntimeLock
) -> None:
    first, second = make("1.0.0"), make("2.0.0")
    result = push(first, deploy, f"fc.{PROFILE}.fp32.tflite")
    assert result.outcome == "activated", result.reason
    (report,) = measure.bench(
        first, [deploy], BenchProtocol(processes=1, warmup=1, samples=3, warm_seconds=0, least_seconds=0), "", Plain()
    )
    assert (report.variant, report.runtime.lock) == (f"fc.{PROFILE}.w8a8.tflite", lock.digest())
    assert report.validity.verdict == "invalid"
    assert push(second, deploy).outcome == "activated"
    (back,) = delivery.rollback([deploy], "fc", Plain())
    assert (back.outcome, back.release) == ("rolled-back", first.digest)
    (state,) = delivery.status([deploy], Plain())
    assert [(one.version, one.active, one.verified) for one in state.releases] == [("1.0.0", True, True)]


def ask(target: Target, command: str | None) -> tuple[int, str]:
    """Exit code and output of a command, or of a shell where there is none, as a stranger's client asks for it."""
    with connect(target) as session:
        channel = session._transport.open_session(timeout=30)
        channel.settimeout(30)
        if command is None:
            channel.invoke_shell()
        else:
            channel.exec_command(command)
        channel.shutdown_write()
        return channel.recv_exit_status(), channel.makefile("rb").read().decode()


@pytest.mark.parametrize("command", ["id", "sh -c 'echo pwned'", "cat .edgepack/door.json", None])
def test_it_runs_nothing_else(deploy: Target, command: str | None) -> None:
    if command is None:  # a shell without a terminal: `restrict` gives none
        with connect(deploy) as session, pytest.raises(paramiko.SSHException):
            session._transport.open_session(timeout=30).get_pty()
    code, said = ask(deploy, command)
    assert code == 1 and '"error"' in said and "uid=" not in said and "\npwned" not in said


def test_it_opens_no_files_and_no_ports(old: Target, deploy: Target) -> None:
    with connect(deploy) as session, pytest.raises((paramiko.SSHException, paramiko.SFTPError)):
        paramiko.SFTPClient.from_transport(session._transport)
    with connect(deploy) as session:
        with pytest.raises(paramiko.SSHException):
            session._transport.open_channel("direct-tcpip", ("127.0.0.1", old.port), ("", 0), timeout=10)
        with pytest.raises(paramiko.SSHException):
            session._transport.request_port_forward("127.0.0.1", 0)


def test_it_brings_no_agent_no_wheels_and_no_commands_of_its_own(deploy: Target, lock: RuntimeLock) -> None:
    code, said = ask(deploy, commands.install_agent("~/.edgepack", "0" * 64))
    assert code == 1 and "no unknown agent" in said
    stranger = msgspec.structs.replace(lock, version="2.14.1")
    with connect(deploy) as session:
        asked = RuntimeRequest(key=stranger.digest(), runtime="tflite-runtime", version="2.14.1", lock="{}")
        with pytest.raises(TrustError, match="may not install the wheels"):
            session.call("runtime", asked, RuntimeReply, 60.0)
        with pytest.raises(TrustError, match="may not run the health command 'id'"):
            session.call("rollback", RollbackRequest(name="fc", leave="", health="id"), RollbackReply, 60.0)
        with pytest.raises(TrustError, match="agent alone"):
            session.call("trust", FactsRequest(), Facts, 60.0)
    with pytest.raises(TrustError, match="agent alone"):
        delivery.authorize(deploy, Path(deploy.identity + ".pub").read_text(), write=True)


@pytest.fixture
def own_home(test_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What vouches for agents is kept apart from other tests'."""
    monkeypatch.setattr("edgepack.remote.endorsement.home", lambda: tmp_path / "home")
    return tmp_path / "home"


def test_it_brings_another_agent_if_a_trusted_key_signed_it(
    old: Target, deploy: Target, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real door of a real sshd: the host whose edgepack is newer than what was authorized."""
    keys.make_pair(tmp_path / "release")
    signer = trust.load_signer(tmp_path / "release", lambda _: "")
    delivery.entrust(old, remote.fingerprint(old), [signer.key], ())
    delivery.authorize(old, Path(deploy.identity + ".pub").read_text(), write=True, signed_agents=True)
    newer = agent_pyz()[:-2] + b"\x05\x00newer"  # a comment in the zip: it runs, and is another
    for module in ("session", "endorsement"):
        monkeypatch.setattr(f"edgepack.remote.{module}.agent_pyz", lambda: newer)
    with connect(deploy) as session, pytest.raises(TrustError, match="only with a signature") as refused:
        session.call("facts", FactsRequest(), Facts, 60.0)
    assert "edgepack agent sign" in refused.value.advice
    remote.keep_endorsement(signing.endorse_agent(signer))
    with connect(deploy) as session:
        assert session.call("facts", FactsRequest(), Facts, 60.0).machine == "armv7l"
