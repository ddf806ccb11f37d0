"""What becomes of a graph as a whole: constants, branches, loops, functions, biases; and the module it is in the end."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgepack.convert.onnx_to_torch import to_module
from edgepack.errors import InexpressibleError, InputError
from edgepack.model import Signature, TensorSpec

pytestmark = pytest.mark.frameworks

HEADER = '<ir_version: 8, opset_import: ["": 17]>'


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEADER}\n{text}")


def translated(model: onnx.ModelProto, signature_of: Any) -> Any:
    from edgepack.convert.onnx_to_torch.translate import translate

    return translate(model, signature_of(model), "net.onnx")


def image(*shape: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def test_what_is_known_is_computed_once(agree: Any, signature_of: Any) -> None:
    model = parse(
        """net (float[1, 6] x) => (float[3, 2] y) {
            size = Size(x)  two = Constant<value_int = 2>()  rest = Div(size, two)
            a = Constant<value_ints = [0]>()  r = Unsqueeze(rest, a)  t = Unsqueeze(two, a)
            shape = Concat<axis = 0>(r, t)
            y = Reshape(x, shape)
        }"""
    )
    agree(model, image(1, 6))
    assert [step.op for step in translated(model, signature_of).steps] == ["Reshape"]


@pytest.mark.parametrize("size", [3, 4])
def test_a_branch_is_taken_by_what_is_known(size: int, agree: Any, signature_of: Any) -> None:
    model = parse(
        f"""net (float[1, {size}] x) => (float[1, {size}] y) {{
            n = Size(x)  three = Constant<value_int = 3>()  c = Greater(n, three)
            y = If(c) <then_branch = g () => (float[1, {size}] t) {{ t = Neg(x) }},
                       else_branch = h () => (float[1, {size}] e) {{ e = Exp(x) }}>
        }}"""
    )
    agree(model, image(1, size))
    assert [step.op for step in translated(model, signature_of).steps] == ["Neg" if size > 3 else "Exp"]


def test_a_branch_that_the_inputs_decide_is_refused(signature_of: Any) -> None:
    model = parse(
        """net (float[1] x, bool c) => (float[1] y) {
            [choice] y = If(c) <then_branch = g () => (float[1] t) { t = Neg(x) },
                                else_branch = h () => (float[1] e) { e = Exp(x) }>
        }"""
    )
    with pytest.raises(InexpressibleError, match=r"If \(node 'choice', opset 17\): its condition \('c'\)") as refusal:
        translated(model, signature_of)
    assert "fix the input" in refusal.value.advice


def test_a_loop_is_unrolled(agree: Any, signature_of: Any) -> None:
    model = parse(
        """net (float[2] x) => (float[2] last, float[3, 2] all) {
            n = Constant<value_int = 3>()  go = Constant<value = bool {1}>()
            last, all = Loop(n, go, x) <body = b (int64 i, bool on, float[2] v) => (bool more, float[2] w, float[2] s) {
                more = Identity(on)  f = Cast<to = 1>(i)  w = Add(v, f)  s = Mul(w, x)
            }>
        }"""
    )
    agree(model, image(2))
    assert [step.op for step in translated(model, signature_of).steps] == [*["Add", "Mul"] * 3, "Loop"]


def test_a_loop_that_the_inputs_decide_is_refused(signature_of: Any) -> None:
    model = parse(
        """net (float[2] x, int64 n) => (float[2] y) {
            go = Constant<value = bool {1}>()
            y = Loop(n, go, x) <body = b (int64 i, bool on, float[2] v) => (bool more, float[2] w) {
                more = Identity(on)  w = Neg(v)
            }>
        }"""
    )
    with pytest.raises(InexpressibleError, match=r"Loop \(node 'y', opset 17\).*'n'"):
        translated(model, signature_of)


def test_functions_of_the_model_and_of_onnx_are_expanded(agree: Any) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "own": 1]>
        net (float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] y) { a = own.Leaky<slope = 0.3>(x)  y = MeanVarianceNormalization(a) }
        <domain: "own", opset_import: ["": 17]> Leaky<slope> (v) => (w) { w = LeakyRelu<alpha: float = @slope>(v) }
        """
    )
    agree(model, image(1, 2, 3, 3))


def test_an_operator_of_another_vendor_is_refused(signature_of: Any) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "com.vendor": 1]>'
        "net (float[1] x) => (float[1] y) { [fast] y = com.vendor.FusedThing(x) }"
    )
    with pytest.raises(
        InexpressibleError, match=r"com\.vendor\.FusedThing \(node 'fast', opset 1\): it is not a standard"
    ):
        translated(model, signature_of)


def test_an_old_opset_is_refused(signature_of: Any) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 3, opset_import: ["": 6]> net (float[1] x) => (float[1] y) { y = Relu(x) }'
    )
    with pytest.raises(InexpressibleError, match="opset 6 is too old"):
        translated(model, signature_of)


def saved_net(folder: Path) -> tuple[Path, Signature]:
    """A convolution with its norm, a product with its bias, for any batch."""
    random = np.random.default_rng(2)
    weights = {
        "k": random.standard_normal((4, 2, 3, 3)), "s": random.uniform(0.5, 1, 4), "b": random.standard_normal(4),
        "m": random.standard_normal(4), "v": random.uniform(0.5, 1, 4), "w": random.standard_normal((4, 3)),
        "c": random.standard_normal(3),
    }  # fmt: skip
    model = parse(
        """net (float[n, 2, 6, 6] x) => (float[n, 3] y) {
            f = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, k)  n0 = BatchNormalization(f, s, b, m, v)
            r = Relu(n0)  g = GlobalAveragePool(r)  h = Flatten(g)  p = MatMul(h, w)  y = Add(p, c)
        }"""
    )
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()
    )
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx", Signature((TensorSpec("x", (None, 2, 6, 6)),), (TensorSpec("y", (None, 3)),))


def test_the_module_takes_any_batch_and_learns(tmp_path: Path) -> None:
    import onnxruntime
    import torch

    module = to_module(*saved_net(tmp_path))
    batch = torch.randn(5, 2, 6, 6)
    expected = onnxruntime.InferenceSession(str(tmp_path / "net.onnx")).run(None, {"x": batch.numpy()})[0]
    np.testing.assert_allclose(module(batch).detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    assert [step.op for step in module.steps] == [
        "Conv",
        "BatchNormalization",
        "Relu",
        "GlobalAveragePool",
        "Flatten",
        "MatMul",
    ]
    twin = copy.deepcopy(module).train()
    twin(batch).square().sum().backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert sum(parameter.numel() for parameter in twin.parameters()) == 4 * 2 * 9 + 4 + 4 + 4 * 3 + 3


def test_norms_fold_into_the_convolution_before_them(tmp_path: Path) -> None:
    import torch

    from edgepack.convert.onnx_to_torch.fuse import fold_batch_norms

    module = to_module(*saved_net(tmp_path))
    sample = torch.randn(1, 2, 6, 6)
    with torch.no_grad():
        before = module(sample)
        folded = fold_batch_norms(module)
        np.testing.assert_allclose(folded(sample).numpy(), before.numpy(), rtol=1e-4, atol=1e-5)
    assert "BatchNormalization" not in [step.op for step in folded.steps]
    assert not any(isinstance(child, torch.nn.BatchNorm2d) for child in folded.modules())


def test_the_module_exports(tmp_path: Path) -> None:
    import torch

    sample = (torch.randn(1, 2, 6, 6),)
    module = to_module(*saved_net(tmp_path))
    exported = torch.export.export(module, sample)
    np.testing.assert_allclose(exported.module()(*sample).detach().numpy(), module(*sample).detach().numpy(), atol=1e-6)


def test_a_dtype_that_is_not_the_files_is_named(tmp_path: Path) -> None:
    path, signature = saved_net(tmp_path)
    wrong = Signature((TensorSpec("x", (1, 2, 6, 6), "int8"),), signature.outputs)
    with pytest.raises(InputError, match="input 'x' is float32 in the file, int8 in the signature"):
        to_module(path, wrong)


def test_a_size_that_is_not_the_files_is_named(tmp_path: Path) -> None:
    path, signature = saved_net(tmp_path)
    wrong = Signature((TensorSpec("x", (1, 2, 6, 7)),), signature.outputs)
    with pytest.raises(
        InputError, match=r"input x: float32\[1, 2, 6, 7\] does not fit the file, which has \[\?, 2, 6, 6\]"
    ):
        to_module(path, wrong)


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    path, signature = saved_net(tmp_path)
    with pytest.raises(InputError, match="has no input 'z'"):
        to_module(path, Signature((TensorSpec("z", (1,)),), signature.outputs))
    with pytest.raises(InputError, match="leaves out the inputs x"):
        to_module(path, Signature((), signature.outputs))
