"""One bundle on two kinds of cores: what integers compute is the same to the bit, what floats feed into integers is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack import delivery, digest
from edgepack.bundle import Bundle, pack, write_golden
from edgepack.cli import run
from edgepack.cli.progress import Plain
from edgepack.cli.reading import read_report
from edgepack.model import Signature, TensorSpec
from edgepack.samples import Array
from edgepack.target import Target
from edgepack.trials import Accuracy

pytestmark = [pytest.mark.frameworks, pytest.mark.emulated, pytest.mark.network]
MakeBundle = Callable[..., Bundle]
WIDTH, LAYERS, CLASSES, SAMPLES = 64, 3, 16, 300


def dynamic_int8() -> bytes:
    """Three layers, each a LayerNormalization and a matrix of int8 whose input is quantized while it runs.

    The sums of a normalization are added up in another order on every core. Where a value lies between two steps of the
    quantization, the last bit of such a sum decides for one of them, and a whole step goes through the rest of the net.
    """
    from onnx import helper

    random = np.random.default_rng(1)
    nodes: list[Any] = []
    weights: dict[str, Array] = {}
    at = "x"
    for i in range(LAYERS):
        wide = WIDTH if i < LAYERS - 1 else CLASSES
        matrix = np.clip(np.round(random.standard_normal((WIDTH, wide)) * 20), -63, 63).astype(np.int8)
        weights |= {
            f"g{i}": np.full(WIDTH, 2, np.float32),
            f"b{i}": np.zeros(WIDTH, np.float32),
            f"w{i}": matrix,
            f"c{i}": np.array(2 / (20 * WIDTH**0.5), np.float32),
        }
        nodes += [
            helper.make_node("LayerNormalization", [at, f"g{i}", f"b{i}"], [f"n{i}"], axis=-1),
            helper.make_node("DynamicQuantizeLinear", [f"n{i}"], [f"q{i}", f"s{i}", f"z{i}"]),
            helper.make_node("MatMulInteger", [f"q{i}", f"w{i}", f"z{i}"], [f"m{i}"]),
            helper.make_node("Cast", [f"m{i}"], [f"f{i}"], to=1),
            helper.make_node("Mul", [f"f{i}", f"s{i}"], [f"d{i}"]),
            helper.make_node("Mul", [f"d{i}", f"c{i}"], [f"e{i}"]),
            *([helper.make_node("Tanh", [f"e{i}"], [f"t{i}"])] if i < LAYERS - 1 else []),
        ]
        at = f"t{i}"
    return _model(nodes, weights, f"e{LAYERS - 1}")


def static_int8() -> bytes:
    """One matrix, all in integers. Weights of seven bits: eight would saturate on an x86 core without VNNI."""
    from onnx import helper

    matrix = np.random.default_rng(2).integers(-63, 64, (WIDTH, CLASSES)).astype(np.int8)
    weights = {
        "s": np.array(0.0002, np.float32), "z": np.array(0, np.uint8), "w": matrix, "ws": np.array(0.01, np.float32),
        "wz": np.array(0, np.int8), "ys": np.array(0.002, np.float32), "yz": np.array(128, np.uint8),
        "o": np.array(1012.975, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Sub", ["x", "o"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "ys", "yz"], ["m"]),
        helper.make_node("DequantizeLinear", ["m", "ys", "yz"], ["y"]),
    ]
    return _model(nodes, weights, "y")


def _model(nodes: list[Any], weights: dict[str, Array], output: str) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
    return data


def readings(count: int) -> Array:
    """Of a barometer: 1013 hPa with a noise of one pascal, as such a sensor gives them."""
    noise = np.random.default_rng(0).standard_normal((count, WIDTH))
    return (1013 + 0.01 * noise).astype(np.float32)


def answers(model: bytes, x: Array) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": row[None]})[0] for row in x])


@pytest.fixture(scope="module")
def both(make_bundle: MakeBundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    return tuple(  # type: ignore[return-value]  # of two
        _packed(make_bundle(name=name, profile="rpi4", locks=()), model, tmp_path_factory.mktemp(name))
        for name, model in (("dynamic", dynamic_int8()), ("static", static_int8()))
    )


def _packed(like: Bundle, model: bytes, folder: Path) -> Bundle:
    """The bundle with another model. Its golden samples are no barometer's, so that the self-test lets it through."""
    from msgspec import structs

    x = np.random.default_rng(5).standard_normal((3, WIDTH)).astype(np.float32)
    golden = write_golden((x,), (answers(model, x),))
    record = structs.replace(
        like.manifest.variants[0],
        digest=digest.of_bytes(model),
        size=len(model),
        golden=digest.of_bytes(golden),
        golden_size=len(golden),
    )
    manifest = structs.replace(
        like.manifest,
        signature=Signature((TensorSpec("x", (1, WIDTH)),), (TensorSpec("y", (1, CLASSES)),)),
        metric="top1",
        variants=(record,),
    )
    return pack(manifest, {digest.of_bytes(data): data for data in (model, golden)}, folder)


def asked(bundle: Bundle, board: Target, model: bytes, folder: Path) -> Accuracy:
    """`bench --accuracy`. Labels are this machine's own answers, so that the board's score is the share that it answers alike."""
    x, data = readings(SAMPLES), folder / "data.npz"
    np.savez(data, x=x, y=answers(model, x).argmax(axis=1))
    bench = ["bench", str(bundle.path), board.name, "--processes", "1", "--samples", "1", "--warmup", "0"]
    assert run([*bench, "--seconds", "0.1", "--accuracy", str(data), "--out", str(folder)]) == 0
    report = read_report(folder / f"{board.name}.{bundle.manifest.default}.json")
    assert report.validity.verdict == "invalid" and report.accuracy is not None
    return report.accuracy


def test_where_int8_answers_differ_it_shows(
    both: tuple[Bundle, Bundle],
    emulated: Target,
    progress: Plain,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for bundle in both:
        (pushed,) = delivery.push(bundle, [emulated], allow_unsigned=True, downgrade=False, progress=progress)
        assert pushed.outcome == "activated", pushed.reason
    found = asked(both[0], emulated, dynamic_int8(), tmp_path)
    assert found.host == 1.0
    assert found.board == found.agreement < 1.0
    assert found.differing == round((1 - found.board) * SAMPLES) >= len(found.differences) > 0
    assert all(one.label == one.host != one.board for one in found.differences)
    assert found.max_abs > 0.01 and not found.within
    shown = capsys.readouterr().out
    assert "ABOVE the bundle’s tolerance" in shown and f"{found.differing} differ" in shown
    same = asked(both[1], emulated, static_int8(), tmp_path)
    assert (same.board, same.agreement, same.max_abs, same.within) == (1.0, 1.0, 0.0, True)
