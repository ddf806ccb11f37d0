"""How a module is trained: every choice of the recipe does what it says, and a training that was stopped ends the same."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgepack import compress
from edgepack.compress import emulation, features, layers, norms
from edgepack.compress.schedules import learning_rate
from edgepack.compress.training import held_out
from edgepack.digest import Digest
from edgepack.errors import InexpressibleError, InputError
from edgepack.recipe import Optimizer, Recover, Rehearse, Schedule
from edgepack.samples import Array, Arrays, TrainingData

pytestmark = pytest.mark.frameworks

X = np.random.default_rng(0).standard_normal((256, 8)).astype(np.float32)
Y = (X[:, :3]).argmax(1)


def batches_of(x: Array, y: Array | None, *, shuffled: bool = False) -> TrainingData:
    def batches(epoch: int) -> Iterator[tuple[Arrays, Array | None]]:
        order = np.random.permutation(len(x)) if shuffled else np.arange(len(x))
        for start in range(0, len(x), 32):
            rows = order[start : start + 32]
            yield (x[rows],), None if y is None else y[rows]

    return TrainingData(batches, Digest("sha256:t"))


DATA = batches_of(X, Y)


def net(seed: int = 0, width: int = 16) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))


def loss(module: nn.Module) -> float:
    with torch.no_grad():
        return float(nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(Y)))


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@given(st.sampled_from(get_args(Schedule)), st.floats(0, 1), st.integers(0, 10_000))
def test_a_rate_is_positive_and_never_above_its_peak(schedule: Schedule, done: float, batches: int) -> None:
    rate = learning_rate(schedule, 0.1, done, batches)
    assert -1e-12 <= rate <= 0.1 + 1e-12


def test_schedules_end_where_they_say() -> None:
    ends = {schedule: learning_rate(schedule, 1.0, 1.0, 1000) for schedule in get_args(Schedule)}
    assert ends == pytest.approx({"cosine": 0, "linear": 0, "step": 0.01, "one-cycle": 1e-4, "constant": 1}, abs=1e-9)
    assert [learning_rate("step", 1.0, done, 99) for done in (0.3, 0.4, 0.7)] == pytest.approx([1, 0.1, 0.01])
    assert learning_rate("one-cycle", 1.0, 0.3, 0) == pytest.approx(1.0)


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_every_optimizer_learns(optimizer: Optimizer, schedule: Schedule, heard: Any) -> None:
    rate = {"sgd": 0.1, "adagrad": 0.05}.get(optimizer, 1e-2)
    step = Recover(epochs=12, learning_rate=rate, optimizer=optimizer, schedule=schedule, distil=0.0)
    assert loss(compress.recover(net(), net(), DATA, step, heard)) < 0.7 * loss(net())


def test_weight_decay_makes_weights_smaller(heard: Any) -> None:
    def size(decay: float) -> float:
        trained = compress.recover(net(), net(), DATA, Recover(epochs=3, weight_decay=decay), heard)
        return float(sum(value.detach().pow(2).sum() for value in trained.parameters()))

    assert size(1.0) < size(0.0)


def test_dropout_is_for_training_only(heard: Any) -> None:
    module = net()
    x = torch.from_numpy(X)
    with layers.dropping(module, 0.5):
        assert not torch.equal(module.train()(x), module(x))
        assert torch.equal(module.eval()(x), module(x))
    assert torch.equal(module.train()(x), module(x))
    one = compress.recover(net(), net(), DATA, Recover(epochs=1, dropout=0.5), heard)
    assert not same(one, compress.recover(net(), net(), DATA, Recover(epochs=1), heard))


def test_features_teach_a_narrower_student(heard: Any) -> None:
    """Nothing but the inner layers' likeness and answers: the student comes to see samples as its teacher does."""
    teacher = compress.recover(net(), net(), DATA, Recover(epochs=5, distil=0.0, learning_rate=1e-2), heard)

    def apart(student: nn.Module) -> float:
        names = ("0", "2")
        with features.watching(student, names) as one, features.watching(teacher, names) as two, torch.no_grad():
            student(torch.from_numpy(X)), teacher(torch.from_numpy(X))
            return float(features.unlikeness(one, two, names))

    student = net(seed=1, width=8)
    with_features, without = (
        compress.recover(student, teacher, DATA, Recover(epochs=8, learning_rate=1e-2, features=weight), heard)
        for weight in (10.0, 0.0)
    )
    assert apart(with_features) < 0.7 * apart(without)
    assert not any(layer._forward_hooks for layer in with_features.modules())


def test_which_layers_are_compared() -> None:
    deep = nn.Sequential(*(nn.Linear(4, 4) for _ in range(9)))
    assert layers.compared(deep, deep, ()) == ("1", "3", "5", "7")
    assert layers.compared(net(), net(), ()) == ("0", "2")
    assert layers.compared(net(), net(), ("[02]",)) == ("0", "2")


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.classify = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        return self.classify(self.norm(self.body(x)).relu())


@pytest.mark.parametrize("how", ["he", "xavier"])
def test_replaced_layers_are_drawn_anew(how: Any) -> None:
    module = Named()
    before = copy.deepcopy(module)
    torch.manual_seed(0)
    assert layers.draw_anew(module, ("class*", "norm"), how) == ("classify", "norm")
    assert not torch.equal(module.classify.weight, before.classify.weight)
    assert torch.equal(module.body.weight, before.body.weight)
    assert not module.classify.bias.any()
    spread = float(module.classify.weight.detach().std())
    assert spread == pytest.approx({"he": (2 / 16) ** 0.5, "xavier": (2 / 19) ** 0.5}[how], rel=0.35)


@pytest.mark.parametrize(
    "wrong",
    [Recover(replaced=("clasify",)), Recover(features=1.0, feature_layers=("clasify",))],
    ids=["replaced", "features"],
)
def test_a_layer_that_is_not_there_is_named(wrong: Recover, heard: Any) -> None:
    with pytest.raises(InputError, match="no layer 'clasify'") as found:
        compress.recover(Named(), Named(), DATA, wrong, heard)
    assert "'classify'" in found.value.advice


def test_training_stops_when_held_out_samples_gain_no_more(heard: Any) -> None:
    """Labels that mean nothing can be learnt by heart, but not for samples that were held out."""
    noise = np.random.default_rng(1).integers(0, 3, len(X))
    step = Recover(epochs=40, patience=2, holdout=0.3, learning_rate=2e-2, schedule="constant", distil=0.0)
    teacher = net(width=64)
    trained = compress.recover(teacher, teacher, batches_of(X, noise, shuffled=True), step, heard)
    assert heard.notes[-1].endswith("stopped early")
    out = held_out((X,), 0.3)

    def held(module: nn.Module) -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(module(torch.from_numpy(X[out])), torch.from_numpy(noise[out])))

    longer = compress.recover(teacher, teacher, batches_of(X[~out], noise[~out]), Recover(epochs=40, learning_rate=2e-2, schedule="constant", distil=0.0), heard)  # fmt: skip
    assert held(trained) < held(longer)


def test_the_same_samples_are_held_out_in_any_order() -> None:
    out = held_out((X,), 0.25)
    assert 0.15 < out.mean() < 0.35
    order = np.random.default_rng(0).permutation(len(X))
    assert (held_out((X[order],), 0.25) == out[order]).all()


def test_norms_are_estimated_again() -> None:
    module = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3))
    shifted = batches_of(X * 3 + 5, Y)
    norms.estimate_again(module, shifted, 8)
    x = X * 3 + 5
    np.testing.assert_allclose(module[0].running_mean.numpy(), x.mean(0), atol=1e-4)
    np.testing.assert_allclose(module[0].running_var.numpy(), x.var(0), rtol=0.1)
    assert module[0].momentum == 0.1 and not module.training


class Stopping:
    """A Progress that stops the training after some epochs, as a kill would."""

    def __init__(self, heard: Any, after: int) -> None:
        self._heard, self._after = heard, after

    def track(self, items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
        for index, item in enumerate(items):
            if index == self._after:
                raise KeyboardInterrupt
            yield item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heard, name)


@pytest.mark.parametrize(
    "step",
    [
        Recover(epochs=5, dropout=0.2, optimizer="sgd", learning_rate=1e-2),
        Recover(epochs=5, patience=4, features=0.5),
        Rehearse(epochs=5),
    ],
    ids=["dropout", "patience", "rehearsed"],
)
def test_a_stopped_training_ends_as_an_undisturbed_one(step: Any, tmp_path: Path, heard: Any) -> None:
    data = batches_of(X, Y, shuffled=True)  # from numpy's global generator, as augmentations do
    start, file = seeded(), tmp_path / "checkpoint.pt"
    whole = compress.recover(start, start, data, step, heard)
    with pytest.raises(KeyboardInterrupt):
        compress.recover(start, start, data, step, Stopping(heard, 2), checkpoint=file)
    np.random.rand(7), torch.rand(7)
    resumed = compress.recover(start, start, data, step, heard, checkpoint=file)
    assert any(note.startswith("training goes on after epoch 1") for note in heard.notes)
    assert same(whole, resumed)
    again = compress.recover(start, start, data, step, heard, checkpoint=file)
    assert same(whole, again), "a training that is over is not done again"


def seeded() -> Named:
    torch.manual_seed(0)
    return Named()


def test_a_broken_checkpoint_is_named(tmp_path: Path, heard: Any) -> None:
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(InputError, match=r"the checkpoint .*checkpoint.pt cannot be read"):
        compress.recover(net(), net(), DATA, Recover(epochs=1), heard, checkpoint=file)


def test_rehearsed_weights_are_rounded_per_channel_and_stay_so() -> None:
    """A file is corrected to answer like the module that is handed out: that must be the one which was trained."""
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    before = copy.deepcopy(module.state_dict())
    x = torch.randn(8, 1, 4, 4)
    with emulation.emulating(module, Rehearse("w4")):
        weight = module[0].weight.detach()
        steps = before["0.weight"].abs().amax((1, 2, 3), keepdim=True) / 7
        assert torch.allclose(weight, (before["0.weight"] / steps).round() * steps, atol=1e-6)
        answer = module(x)
    assert set(module.state_dict()) == set(before) and torch.equal(module(x), answer)
    assert torch.equal(module[0].weight, weight) and torch.equal(module[0].bias, before["0.bias"])
    with emulation.emulating(module, Rehearse("w4")):
        assert torch.allclose(module[0].weight, weight, atol=1e-6), "a quantizer finds the same steps again"
    assert type(module[0]) is nn.Conv2d and not module[0]._forward_pre_hooks


def test_depthwise_layers_keep_the_8_bits_that_a_4_bit_file_gives_them() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3))
    with emulation.emulating(module, Rehearse("w4")):
        thin, whole = ({len(channel.unique()) for channel in layer.weight.detach()} for layer in module)
    assert thin == {9} and max(whole) <= 15


def test_rehearsed_activations_are_rounded_over_their_range() -> None:
    module = nn.Sequential(nn.Linear(4, 4, bias=False))
    nn.init.eye_(module[0].weight)
    x = torch.linspace(-1, 3, 64).reshape(16, 4)
    with emulation.emulating(module, Rehearse("w8a8")):
        module.train()(x)
        answer = module.eval()(x).detach()
        step = 4 / 255
        assert len(answer.unique()) > 32
        assert float((answer - x).abs().max()) <= step / 2 + 1e-5
        assert torch.allclose(answer / step, (answer / step).round(), atol=1e-3)


def test_what_was_rehearsed_survives_rounding(heard: Any) -> None:
    """Four bits cost this net much; trained for them, it loses less than half of that."""
    teacher = compress.recover(net(), net(), DATA, Recover(epochs=8, learning_rate=1e-2, distil=0.0), heard)
    rehearsed = compress.recover(teacher, teacher, DATA, Rehearse("w4", epochs=8, learning_rate=3e-3), heard)

    def rounded(module: nn.Module) -> float:
        twin = copy.deepcopy(module)
        with emulation.emulating(twin, Rehearse("w4")):
            return loss(twin)

    assert rounded(rehearsed) - loss(teacher) < 0.5 * (rounded(teacher) - loss(teacher))


def test_nothing_to_rehearse() -> None:
    with (
        pytest.raises(InexpressibleError, match="no convolution or linear layer"),
        emulation.emulating(nn.ReLU(), Rehearse()),
    ):
        pass
