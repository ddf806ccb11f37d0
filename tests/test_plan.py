"""What a profile asks for becomes recipes; what a source or its data cannot give is skipped with a reason."""

from __future__ import annotations

import pytest

from edgepack import catalog, documents
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.model import Format, Model, Signature, TensorSpec
from edgepack.plan import plan
from edgepack.project import BuildSection, DataSection, ModelSection, Project, PruneSection, QatSection
from edgepack.recipe import Convert, Method, Prune, Quantize, Recover, Rehearse

SIGNATURE = Signature((TensorSpec("x", (1, 4)),), (TensorSpec("y", (1, 2)),))
DATA = DataSection(calibration="c.npz", evaluation="e.npz", training="t.npz", metric="top1")


def make(format=Format.TORCH, *, data=DATA, trainable=True, precision="fp32", profile="rpi4", **sections):
    model = Model(source="m", format=format, digest=Digest("sha256:00"), signature=SIGNATURE, precision=precision)
    (resolved,) = catalog.load_profiles([profile])
    project = Project(name="net", version="1.0.0", model=ModelSection(source="m"), data=data, **sections)
    return plan(model, resolved, project, (), trainable=trainable)


def ids(found):
    return {found.id_of(recipe) for recipe in found.recipes}


def test_a_trainable_torch_model_gets_every_sparsity_format_and_precision():
    found = make()
    assert len(found.recipes) == 2 * 2 * 5 and not found.skipped
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


def test_training_for_quantization_is_asked_for():
    assert not any("-qat" in id for id in ids(make()))
    found = make(build=BuildSection(qat=True, seed=3), qat=QatSection(epochs=2), recover=Method(replaced=("head",)))
    extra = {id for id in ids(found) if "-qat" in id}
    assert extra == {f"net.rpi4.w8a8{pruned}-qat.{format}" for pruned in ("", "-s50") for format in ("onnx", "tflite")}
    recipe = next(recipe for recipe in found.recipes if found.id_of(recipe) == "net.rpi4.w8a8-s50-qat.onnx")
    assert [type(step) for step in recipe] == [Prune, Recover, Rehearse, Convert, Quantize]
    assert recipe[2] == Rehearse("w8a8", epochs=2, seed=3), "what recovery drew anew is not drawn again"
    assert recipe[1].replaced == ("head",)


def test_training_for_quantization_that_cannot_be_is_a_plain_statement():
    build = BuildSection(qat=True)
    reason = {skipped.what: skipped.reason for skipped in make(Format.KERAS, trainable=False, build=build).skipped}[
        "qat"
    ]
    assert "this one is Keras 3" in reason and "tfmot" in reason
    reason = {
        s.what: s.reason for s in make(data=DataSection(calibration="c.npz"), trainable=False, build=build).skipped
    }
    assert "--training" in reason["qat"]
    scored = DataSection(training="t.npz", evaluation="e.npz")
    reason = {s.what: s.reason for s in make(data=scored, build=build).skipped}
    assert "w8a8, w8a16, w4" in reason["qat"]


def test_nothing_is_trained_that_nobody_can_judge():
    """A pruned module's file is compared with that module, so without a score it looks as good as the source."""
    data = DataSection(calibration="c.npz", training="t.npz")
    found = make(data=data, build=BuildSection(qat=True))
    assert not any("-s50" in id or "-qat" in id for id in ids(found)) and "net.rpi4.w8a8.onnx" in ids(found)
    assert {s.what: "--evaluation" in s.reason for s in found.skipped} == {"sparsity 0.5": True, "qat": True}


def test_single_zeros_are_a_plain_statement():
    found = make(prune=PruneSection(pattern="2:4"))
    assert not any("-s50" in id for id in ids(found))
    (skipped,) = found.skipped
    assert skipped.what == "sparsity 0.5" and "make no runtime faster" in skipped.reason


def test_the_recipe_is_what_the_project_says():
    method = Method(optimizer="sgd", schedule="step", features=1.0, patience=2)
    found = make(prune=PruneSection(importance="taylor", scope="global"), recover=method)
    pruned = next(recipe for recipe in found.recipes if isinstance(recipe[0], Prune))
    assert pruned[0] == Prune(0.5, 8, importance="taylor", scope="global")
    assert pruned[1] == Recover(optimizer="sgd", schedule="step", features=1.0, patience=2)
    assert found.digest() != make().digest()


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ('[recover]\noptimiser = "sgd"', ["recover.optimiser", "'optimizer'"]),
        ('[recover]\noptimizer = "sgdd"', ["recover.optimizer", "'sgd'"]),
        ("[recover]\ndropout = 1.5", ["recover.dropout", "< 1"]),
        ("[build]\nepochs = 0", ["build.epochs", ">= 1"]),
        ('[build]\nlog = ["tensorbord"]', ["build.log", "'tensorboard'"]),
        ('[prune]\nimportence = "taylor"', ["prune.importence", "'importance'"]),
        ("[qat]\nlearning_rate = 0.0", ["qat.learning_rate", "> 0"]),
    ],
)
def test_a_wrong_key_or_value_of_training_is_named(text, hints):
    with pytest.raises(InputError) as found:
        documents.read_toml(text, Project, "edgepack.toml")
    assert all(hint in str(found.value) for hint in hints), str(found.value)
