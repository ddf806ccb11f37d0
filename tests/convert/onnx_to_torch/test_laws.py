"""For any shapes and attributes that onnxruntime takes: it and the translation give the same answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgepack.errors import InexpressibleError

pytestmark = pytest.mark.frameworks
Array = NDArray[Any]

law = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
small = st.integers(1, 3)
size = st.integers(3, 8)
AUTO = st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])


def _array(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _window(data: st.DataObject, dilated: bool) -> dict[str, Any]:
    auto = data.draw(AUTO)
    window = {"strides": [data.draw(small), data.draw(small)]}
    if dilated:
        window["dilations"] = [data.draw(small), data.draw(small)]
    if auto != "NOTSET":
        return {**window, "auto_pad": auto}
    return {**window, "pads": [data.draw(st.integers(0, 2)) for _ in range(4)]}


def _fits(image: Array, kernel: list[int], window: dict[str, Any]) -> bool:
    """Whether the window fits at least once, and no padding is a whole window: there onnxruntime refuses."""
    if "auto_pad" in window and any(s > k for s, k in zip(window["strides"], kernel, strict=True)):
        return False
    pads = window.get("pads", [0, 0, 0, 0])
    for axis in (0, 1):
        reach = window.get("dilations", [1, 1])[axis] * (kernel[axis] - 1) + 1
        if (
            image.shape[2 + axis] + pads[axis] + pads[axis + 2] < reach
            or max(pads[axis], pads[axis + 2]) >= kernel[axis]
        ):
            return False
    return True


@law
@given(data=st.data())
def test_convolutions(data: st.DataObject, build: Any, agree: Any) -> None:
    groups = data.draw(st.sampled_from([1, 2, 4]))
    kernel = [data.draw(small), data.draw(small)]
    window = _window(data, dilated=True)
    image = _array(1, 4, data.draw(size), data.draw(size))
    assume(_fits(image, kernel, window))
    assume("auto_pad" not in window or window["dilations"] == [1, 1])  # onnxruntime refuses
    weights = {"w": _array(4, 4 // groups, *kernel), "b": _array(4)}
    agree(
        build("Conv", 13, {"x": image}, weights, ["x", "w", "b"], group=groups, kernel_shape=kernel, **window),
        {"x": image},
    )


@law
@given(data=st.data())
def test_transposed_convolutions(data: st.DataObject, build: Any, agree: Any) -> None:
    kernel, stride = [data.draw(small), data.draw(small)], [data.draw(small), data.draw(small)]
    more = [data.draw(st.integers(0, s - 1)) for s in stride]
    pads = [data.draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
    image = _array(1, 3, data.draw(size), data.draw(size))
    weights = {"w": _array(3, 2, *kernel), "b": _array(2)}
    window = {"strides": stride, "pads": pads, "output_padding": more}
    agree(build("ConvTranspose", 13, {"x": image}, weights, ["x", "w", "b"], **window), {"x": image})


@law
@given(data=st.data(), op=st.sampled_from(["MaxPool", "AveragePool"]), ceil=st.booleans(), counted=st.booleans())
def test_pools(data: st.DataObject, op: str, ceil: bool, counted: bool, build: Any, agree: Any) -> None:
    kernel = [data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))]
    window = _window(data, dilated=op == "MaxPool")
    image = _array(1, 2, data.draw(size), data.draw(size))
    assume(_fits(image, kernel, window))
    assume("auto_pad" not in window or window.get("dilations", [1, 1]) == [1, 1])
    more = {"ceil_mode": int(ceil and "pads" in window)}
    if op == "AveragePool":
        more["count_include_pad"] = int(counted)
    agree(build(op, 19, {"x": image}, {}, ["x"], kernel_shape=kernel, **window, **more), {"x": image})


@law
@given(data=st.data())
def test_slices(data: st.DataObject, build: Any, agree: Any) -> None:
    image = _array(5, 6, 7)
    place = st.integers(-9, 9)
    axes = data.draw(st.permutations([0, 1, -1]))[: data.draw(small)]
    starts, ends = ([data.draw(place) for _ in axes] for _ in range(2))
    steps = [data.draw(st.integers(-3, 3).filter(bool)) for _ in axes]
    constants = {n: np.array(v) for n, v in zip("seap", (starts, ends, axes, steps), strict=True)}
    agree(build("Slice", 13, {"x": image}, constants, ["x", *constants]), {"x": image})


@law
@given(data=st.data(), mode=st.sampled_from(["constant", "reflect", "edge", "wrap"]))
def test_pads(data: st.DataObject, mode: str, build: Any, agree: Any) -> None:
    image = _array(1, 2, 4, 5)
    pads = np.array([data.draw(st.integers(0, n - 1)) for n in (*image.shape, *image.shape)])
    agree(build("Pad", 19, {"x": image}, {"p": pads}, ["x", "p"], mode=mode), {"x": image})


@law
@given(
    data=st.data(),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    way=st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]),
    near=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
)
def test_resizes(data: st.DataObject, mode: str, way: str, near: str, build: Any, agree: Any) -> None:
    image = _array(1, 2, data.draw(size), data.draw(size))
    sizes = np.array([1, 2, data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))])
    attributes = {"mode": mode, "coordinate_transformation_mode": way, "nearest_mode": near}
    model = build("Resize", 13, {"x": image}, {"s": sizes}, ["x", "", "", "s"], **attributes)
    agree(model, {"x": image}, rtol=1e-3, atol=1e-4)


@law
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), data=st.data())
def test_reshapes(shape: list[int], data: st.DataObject, build: Any, agree: Any) -> None:
    image = _array(*shape)
    wanted: list[int] = data.draw(st.permutations(shape))
    if data.draw(st.booleans()):
        wanted = [*wanted[:-1], -1]
    if data.draw(st.booleans()) and shape[0] == wanted[0]:
        wanted = [0, *wanted[1:]]
    agree(build("Reshape", 13, {"x": image}, {"s": np.array(wanted)}, ["x", "s"]), {"x": image})


@law
@given(data=st.data())
def test_a_refusal_names_the_node(data: st.DataObject, build: Any, signature_of: Any) -> None:
    from edgepack.convert.onnx_to_torch.translate import translate

    op = data.draw(st.sampled_from(["Reshape", "Expand", "Tile"]))
    image = _array(2, 3)
    model = build(op, 13, {"x": image, "s": np.array([2, 3])}, {}, ["x", "s"])
    with pytest.raises(InexpressibleError, match=rf"{op} \(node 'the_node', opset 13\).*'s'"):
        translate(model, signature_of(model), "net.onnx")
