"""What static quantization tries and keeps, on real files: corrected layers, layers left in float, what is said of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgepack import compress, runtimes
from edgepack.compress.correction import LayerNoise, steady_mean
from edgepack.compress.mixed import ranked
from edgepack.compress.operators import Operator, short
from edgepack.compress.trial import quality, split
from edgepack.digest import Digest
from edgepack.errors import InexpressibleError
from edgepack.names import FileFormat, Precision
from edgepack.recipe import Quantize
from edgepack.samples import Samples, over

pytestmark = pytest.mark.frameworks

FORMATS: tuple[FileFormat, ...] = ("tflite", "onnx")
SHAPE = (6, 16, 16)


class Uneven(nn.Module):
    """A depthwise layer whose channels differ in size and vary little about a large mean, as folded batch norms leave them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(6, 24, 1), nn.ReLU6(), nn.Conv2d(24, 24, 3, padding=1, groups=24, stride=2), nn.ReLU6(),
            nn.Conv2d(24, 16, 1), nn.Conv2d(16, 24, 1, bias=False), nn.ReLU(), nn.Conv2d(24, 12, 3),
        )  # fmt: skip
        self.head = nn.Linear(12, 10)
        with torch.no_grad():
            self.body[2].weight *= torch.logspace(-1.5, 0, 24)[:, None, None, None]
            self.body[2].bias += 3
            self.head.weight *= 8
            self.head.bias *= 0

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x).mean((2, 3)))


def images(count: int, seed: int) -> Samples:
    """Smooth, so that neighbouring values are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, 6, 4, 4))
    coarse = (coarse + rng.standard_normal((count, 6, 1, 1))) * rng.uniform(0.3, 1.5, (count, 1, 1, 1))
    values = coarse.repeat(4, axis=2).repeat(4, axis=3) + 0.2 * rng.standard_normal((count, *SHAPE))
    return Samples((values.astype(np.float32),), None, Digest(f"sha256:{seed}"))


@pytest.fixture(scope="module")
def uneven(write: Callable[..., Path]) -> dict[FileFormat, Path]:
    torch.manual_seed(3)
    net = Uneven()
    return {format: write(net, (1, *SHAPE), format) for format in FORMATS}


def sqnr(source: Path, out: Path, format: FileFormat) -> float:
    probe = images(64, 9)
    expected, actual = (over(runtimes.open_file(path, format), probe)[0] for path in (source, out))
    return float(10 * np.log10((expected**2).sum() / ((expected - actual) ** 2).sum()))


@pytest.mark.parametrize("format", FORMATS)
def test_correcting_layer_by_layer_helps_at_no_more_size(
    format: FileFormat, uneven: Any, heard: Any, tmp_path: Path
) -> None:
    done = {}
    for correct in ("off", "on", "auto"):
        how = Quantize(precision="w8a8", correct=correct)  # type: ignore[arg-type]
        done[correct] = compress.quantize(
            uneven[format], format, how, images(64, 0), tmp_path / f"{correct}.{format}", heard
        )
    plain, corrected = (sqnr(uneven[format], tmp_path / f"{each}.{format}", format) for each in ("off", "on"))
    assert corrected > plain + 1.5
    assert sqnr(uneven[format], tmp_path / f"auto.{format}", format) > plain + 1.5
    sizes = [(tmp_path / f"{each}.{format}").stat().st_size for each in ("off", "on")]
    assert sizes[1] <= sizes[0] + 256
    layers = done["on"].layers
    assert len(layers) == 6
    assert any(layer.shift > 0 for layer in layers)
    assert all(layer.low <= 0 <= layer.high and 0 <= layer.clipped < 0.2 for layer in layers)
    assert all(layer.cosine > 0.98 and layer.sqnr_db > 15 for layer in layers)
    assert done["off"].layers == ()


@pytest.mark.parametrize("precision", ["w4", "w8"])
@pytest.mark.parametrize("format", FORMATS)
def test_weights_are_rounded_to_answers_where_they_alone_are_integers(
    format: FileFormat, precision: Precision, uneven: Any, heard: Any, tmp_path: Path
) -> None:
    done = {}
    for name, correct, samples in (("off", "off", 64), ("none", "auto", 0), ("few", "auto", 4), ("auto", "auto", 64)):
        how = Quantize(precision=precision, correct=correct)  # type: ignore[arg-type]
        given = images(samples, 0) if samples else None
        out = tmp_path / f"{name}.{format}"
        done[name] = compress.quantize(uneven[format], format, how, given, out, heard)
    written = {name: (tmp_path / f"{name}.{format}").read_bytes() for name in done}
    assert written["off"] == written["none"] == written["few"]
    plain, rounded = (sqnr(uneven[format], tmp_path / f"{name}.{format}", format) for name in ("off", "auto"))
    assert rounded > plain + 5
    assert len(written["auto"]) <= len(written["off"]) + 256  # layers without a bias got one
    assert done["auto"].quantized == done["off"].quantized
    assert any("weights rounded and biases corrected" in choice for choice in done["auto"].choices)


class Signal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(6, 16, 5, groups=2), nn.ReLU(), nn.Conv1d(16, 16, 3), nn.ReLU())
        self.head = nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x).transpose(1, 2)).mean(1)  # a product of three axes


def test_convolutions_of_one_axis_and_products_of_three_are_rounded_to_answers(
    write: Callable[..., Path], heard: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source = write(Signal(), (1, 6, 64), "onnx")

    def signals(count: int, seed: int) -> Samples:
        steps = np.random.default_rng(seed).standard_normal((count, 6, 64)).astype(np.float32)
        return Samples((steps.cumsum(-1) / 4,), None, Digest(f"sha256:{seed}"))

    probe = signals(64, 9)
    expected = over(runtimes.open_file(source, "onnx"), probe)[0]
    noise = {}
    for correct in ("off", "on"):
        out = tmp_path / f"{correct}.onnx"
        how = Quantize(precision="w8", correct=correct)  # type: ignore[arg-type]
        compress.quantize(source, "onnx", how, signals(64, 0), out, heard)
        noise[correct] = float(((over(runtimes.open_file(out, "onnx"), probe)[0] - expected) ** 2).sum())
    assert noise["on"] < noise["off"] / 3


@pytest.mark.parametrize("format", FORMATS)
def test_mixed_leaves_as_many_layers_in_float_as_wanted_or_as_help(
    format: FileFormat, uneven: Any, heard: Any, tmp_path: Path
) -> None:
    integers, mixed = tmp_path / f"w8a8.{format}", tmp_path / f"mixed.{format}"
    passes = compress.Passes()
    compress.quantize(uneven[format], format, "w8a8", images(64, 0), integers, heard, passes=passes)
    done = compress.quantize(
        uneven[format], format, Quantize(precision="mixed", cuts=2), images(64, 0), mixed, heard, passes=passes
    )
    kinds = [operator.kind.upper() for operator in done.left if "CONV" in operator.kind.upper()]
    assert len(kinds) == 2
    assert any("2 layers are left in float, as wanted" in choice for choice in done.choices)
    assert any(choice.startswith("weights of 2 operators in float are stored as ") for choice in done.choices)
    assert mixed.stat().st_size < integers.stat().st_size + 1024
    searched = compress.quantize(
        uneven[format], format, "mixed", images(64, 0), tmp_path / f"searched.{format}", heard, passes=passes
    )
    assert any("tried are left in float" in choice for choice in searched.choices)
    assert sqnr(uneven[format], tmp_path / f"searched.{format}", format) > sqnr(uneven[format], integers, format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_pass_is_shared_and_every_method_has_its_ranges(
    format: FileFormat, uneven: Any, heard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepack.compress import calibration

    made = []
    real = calibration.calibrate
    monkeypatch.setattr(calibration, "calibrate", lambda *given: made.append(1) or real(*given))
    passes, found = compress.Passes(), set()
    for ranges in ("minmax", "percentile", "mse", "entropy"):
        out = tmp_path / f"{ranges}.{format}"
        how = Quantize(precision="w8a8", ranges=ranges, correct="off")  # type: ignore[arg-type]
        done = compress.quantize(uneven[format], format, how, images(32, 0), out, heard, passes=passes)
        assert f"ranges: {ranges}" in done.choices
        found.add(out.read_bytes())
        assert sqnr(uneven[format], out, format) > 10
    assert len(made) == 1
    assert len(found) >= 3


def test_too_few_samples_try_nothing(uneven: Any, heard: Any, tmp_path: Path) -> None:
    done = compress.quantize(uneven["onnx"], "onnx", "w8a8", images(4, 0), tmp_path / "m.onnx", heard)
    assert done.choices == ("ranges: minmax",)


def test_what_is_corrected_on_and_what_is_judged_on_are_apart() -> None:
    samples = Samples((np.arange(40, dtype=np.float32)[:, None],), None, Digest("sha256:x"))
    fit, held_out, meaningful = split(samples, 8, 8)
    assert meaningful
    assert len(fit) == len(held_out) == 8
    assert not set(fit.inputs[0].flat) & set(held_out.inputs[0].flat)


def test_a_shift_that_is_chance_is_not_taken_for_one() -> None:
    errors = np.array([[1.0, 0.3], [1.1, -0.3], [0.9, 0.31], [1.0, -0.29]])
    steady, chance = steady_mean(errors)
    assert steady == pytest.approx(1.0, rel=0.01)
    assert chance == 0


def test_layers_are_ranked_by_what_they_add() -> None:
    def layer(name: str, sqnr_db: float, *after: str) -> LayerNoise:
        return LayerNoise(Operator("Conv", name), sqnr_db, 1.0, 0.0, after)

    order = ranked([layer("a", 40), layer("b", 20, "a"), layer("c", 19.8, "b"), layer("d", 30, "a")])
    assert [each.layer.name for each in order] == ["b", "d", "c", "a"]


def test_quality_is_the_typical_samples_and_says_what_is_lost() -> None:
    rng = np.random.default_rng(0)
    expected = rng.standard_normal((16, 5)).astype(np.float32)
    actual = expected + np.float32(0.01) * rng.standard_normal((16, 5)).astype(np.float32)
    fine = quality((expected,), (actual,))
    assert 35 < fine.sqnr_db < 45
    assert fine.agreement == 1.0
    assert fine.holds(0.01)
    spoiled = actual.copy()
    spoiled[3] += 10
    assert fine.sqnr_db - 6 < quality((expected,), (spoiled,)).sqnr_db < fine.sqnr_db
    assert quality((expected,), (np.zeros_like(expected),)).lost.startswith("loses output 0")


def test_mixed_of_one_layer_is_refused(write: Callable[..., Path], heard: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = write(nn.Sequential(nn.Softmax(1), nn.ReLU()), (1, 8), "onnx")
    samples = Samples((np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32),), None, Digest("sha256:l"))
    with pytest.raises(InexpressibleError, match="no layer of it is quantized"):
        compress.quantize(source, "onnx", "mixed", samples, tmp_path / "m", heard)


def test_long_names_are_cut_to_their_end() -> None:
    assert short("a.B/c.D/conv_stem;a.B/torch.nn.ZeroPad2d_pad;1") == "torch.nn.ZeroPad2d_pad"
    assert short("node_Conv_12") == "node_Conv_12"


@pytest.mark.parametrize("format", FORMATS)
def test_calibrating_takes_as_much_memory_for_many_samples_as_for_few(format: FileFormat, uneven: Any) -> None:
    import tracemalloc

    import onnx

    from edgepack.compress import onnx_watch, tflite, tflite_watch
    from edgepack.compress.calibration import calibrate

    if format == "onnx":
        model = onnx.load(uneven[format])
        watch = onnx_watch.watch(model, (model.graph.input[0].name,))
    else:
        opened = tflite.open_float(uneven[format])
        watch = tflite_watch.watch(opened.data, opened.graph)
    peaks = {}
    for count in (4, 128):
        samples = images(count, 0)
        calibrate(watch, samples.take(2))
        tracemalloc.start()
        done = calibrate(watch, samples)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert done.samples == count
        assert len(done.histograms) > 8
    assert peaks[128] < 1.2 * peaks[4]
