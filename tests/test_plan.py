"""What a profile asks for becomes recipes; what a source or its data cannot give is skipped with a reason."""

from __future__ import annotations

from edgepack import catalog
from edgepack.digest import Digest
from edgepack.model import Format, Model, Signature, TensorSpec
from edgepack.plan import plan
from edgepack.project import DataSection, ModelSection, Project
from edgepack.recipe import Convert, Prune, Quantize, Recover

SIGNATURE = Signature((TensorSpec("x", (1, 4)),), (TensorSpec("y", (1, 2)),))
DATA = DataSection(calibration="c.npz", evaluation="e.npz", training="t.npz", metric="top1")


def make(format=Format.TORCH, *, data=DATA, trainable=True, precision="fp32", profile="rpi4"):
    model = Model(source="m", format=format, digest=Digest("sha256:00"), signature=SIGNATURE, precision=precision)
    (resolved,) = catalog.load_profiles([profile])
    project = Project(name="net", version="1.0.0", model=ModelSection(source="m"), data=data)
    return plan(model, resolved, project, (), trainable=trainable)


def ids(found):
    return {found.id_of(recipe) for recipe in found.recipes}


def test_a_trainable_torch_model_gets_every_sparsity_format_and_precision():
    found = make()
    assert len(found.recipes) == 2 * 2 * 4 and not found.skipped
    assert "net.rpi4.w8a8-s50.tflite" in ids(found) and "net.rpi4.fp32.onnx" in ids(found)
    pruned = next(recipe for recipe in found.recipes if found.id_of(recipe) == "net.rpi4.w8a8-s50.tflite")
    assert [type(step) for step in pruned] == [Prune, Recover, Convert, Quantize]


def test_no_training_data_means_no_pruning_and_says_so():
    found = make(data=DataSection(calibration="c.npz"), trainable=False)
    assert not any("-s50" in id for id in ids(found))
    assert [(s.what, "training" in s.reason) for s in found.skipped] == [("sparsity 0.5", True)]


def test_only_torch_is_pruned():
    found = make(Format.ONNX, trainable=False)
    assert "PyTorch" in found.skipped[0].reason


def test_no_calibration_means_no_static_int8_and_says_so():
    found = make(data=DataSection(), trainable=False)
    assert not any(".w8a8" in id for id in ids(found))
    assert any(s.what == "precision w8a8" and "--calibration" in s.reason for s in found.skipped)


def test_a_quantized_source_is_packed_as_it_is():
    found = make(Format.TFLITE, trainable=False, precision="w8a8")
    assert ids(found) == {"net.rpi4.w8a8.tflite", "net.rpi4.w8a8.onnx"}


def test_the_digest_does_not_depend_on_where_values_came_from():
    assert make().digest() == make().digest() != make(profile="linux-aarch64").digest()
