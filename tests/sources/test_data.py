"""Samples in every form a user has them, and one clear error for every way in which they do not fit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import InputError
from edgepack.model import Preprocessing, Signature, TensorSpec
from edgepack.sources import fitting
from edgepack.sources.data import load_samples, load_training, peek

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 4)).astype(np.float32), np.arange(6)


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs or (TensorSpec("features", (1, 4)),), (TensorSpec("output", (1, 1)),))


TWO = signature(TensorSpec("image", (1, 2, 2)), TensorSpec("ids", (1, 3), "int64"))
CODE = """
import numpy as np
X, Y = np.arange(24, dtype=np.float32).reshape(6, 4), np.arange(6)
IMAGES, IDS = X.reshape(6, 2, 2), np.arange(18).reshape(6, 3)
batches = [slice(0, 4), slice(4, 6)]
def arrays(): return X, Y
def only_x(): return X
def one_tuple(): return (X,)
def mapping(): return {"x": X, "y": Y}
def generator():
    for b in batches:
        yield X[b], Y[b]
def generator_of_x():
    for b in batches:
        yield X[b]
def listed(): return [(X[b], Y[b]) for b in batches]
class Loader:
    def __iter__(self): return generator()
def loader(): return Loader()
def nested_lists(): return [(X[b].tolist(), Y[b].tolist()) for b in batches]
def two_inputs():
    for b in batches:
        yield (IMAGES[b], IDS[b]), Y[b]
def two_named():
    for b in batches:
        yield {"ids": IDS[b], "image": IMAGES[b]}, Y[b]
def shuffled():
    for i in np.random.permutation(6):
        yield X[i:i+1], Y[i:i+1]
def sibling():
    from helpers import scale
    yield X * scale, Y
def torch_tensors():
    import torch
    for b in batches:
        yield torch.tensor(X[b], requires_grad=True), torch.tensor(Y[b])
def nothing(): return []
def a_number(): return 3
def strings(): return [("a", "b")]
def single_samples():
    for i in range(6): yield X[i], Y[i]
def growing():
    yield X[:2, :4], Y[:2]
    yield X[:2, :3], Y[:2]
def changing():
    yield X[:2], Y[:2]
    yield X[:2]
def raising():
    yield X[:2], Y[:2]
    raise RuntimeError("the disk is gone")
def leaving(): raise SystemExit(3)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.py").write_text(CODE)
    (tmp_path / "helpers.py").write_text("scale = 1.0")
    return tmp_path


def save(folder, **arrays) -> str:
    np.savez(folder / "s.npz", **arrays)
    return "s.npz"


def read(reference, folder, of=None, need_labels=True, preprocessing=None, note=fitting.ignore):
    return load_samples(reference, folder, of or signature(), preprocessing, need_labels, note)


@pytest.mark.parametrize("name", ["arrays", "mapping", "generator", "listed", "loader", "nested_lists", "sibling"])
def test_callables(name, folder):
    samples = read(f"data.py:{name}", folder)
    np.testing.assert_array_equal(samples.inputs[0], np.arange(24).reshape(6, 4))
    np.testing.assert_array_equal(samples.labels, np.arange(6))
    assert samples.inputs[0].dtype == np.float32


@pytest.mark.parametrize("name", ["only_x", "one_tuple", "generator_of_x"])
def test_callables_without_labels(name, folder):
    samples = read(f"data.py:{name}", folder, need_labels=False)
    assert samples.labels is None and len(samples) == 6


@pytest.mark.frameworks
def test_torch_tensors(folder):
    assert len(read("data.py:torch_tensors", folder)) == 6


@pytest.mark.parametrize("name", ["two_inputs", "two_named"])
def test_callables_of_two_inputs(name, folder):
    images, ids = read(f"data.py:{name}", folder, TWO).inputs
    assert (images.shape, ids.shape, ids.dtype) == ((6, 2, 2), (6, 3), np.int64)


def test_npz(folder):
    samples = read(save(folder, x=X, y=Y, user=np.zeros(3)), folder)
    np.testing.assert_array_equal(samples.inputs[0], X)
    assert read(save(folder, features=X, y=Y), folder).digest == samples.digest
    assert read(save(folder, x=X + 1, y=Y), folder).digest != samples.digest
    assert read(save(folder, x=X, y=Y + 1), folder).digest != samples.digest


def test_npz_of_two_inputs_by_name(folder):
    images, ids = read(save(folder, ids=np.ones((5, 3), int), image=np.zeros((5, 2, 2))), folder, TWO, False).inputs
    assert (images.dtype, ids.dtype) == (np.float32, np.int64)


WRONG = {
    "missing file": ({}, "none.npz", "none.npz: no such file"),
    "wrong shape": ({"x": X[:, :3], "y": Y}, "s.npz", r"array 'x' has the shape \[6, 3\].*the shape \[n, 4\] of input"),
    "one sample": ({"x": X[0], "y": Y}, "s.npz", r"the shape \[4\].*add the sample axis"),
    "integers wanted": ({"image": X.reshape(6, 2, 2), "ids": X[:, :3]}, "s.npz", "'ids' has the dtype float32.*int64"),
    "NaN": ({"x": np.where(X[2, 1] == X, np.nan, X), "y": Y}, "s.npz", r"'x' holds NaN, first at \[2, 1\]"),
    "infinity": ({"x": np.where(X[2, 1] == X, np.inf, X), "y": Y}, "s.npz", r"'x' holds infinity, first at \[2, 1\]"),
    "NaN in labels": ({"x": X, "y": Y * np.nan}, "s.npz", "'y' holds NaN"),
    "no labels": ({"x": X}, "s.npz", "holds no labels.*numpy.savez"),
    "few labels": ({"x": X, "y": Y[:4]}, "s.npz", r"'y' has the shape \[4\], there are 6 samples"),
    "no samples": ({"x": X[:0], "y": Y[:0]}, "s.npz", "holds no samples"),
    "other names": ({"data": X, "y": Y}, "s.npz", "holds the arrays data; missing: features.*'x', or one under"),
    "an input is missing": ({"image": X.reshape(6, 2, 2)}, "s.npz", "missing: ids.*one per input: image, ids"),
    "unequal inputs": (
        {"image": X.reshape(6, 2, 2), "ids": np.ones((5, 3), int)},
        "s.npz",
        "different numbers of samples: image 6, ids 5",
    ),
    "objects": ({"x": np.array([{}, {}], object), "y": Y}, "s.npz", "cannot be read.*never Python objects"),
    "text": ({"x": np.array(["a"] * 6), "y": Y}, "s.npz", "'x' has the dtype <U1"),
    "text labels": ({"x": X, "y": np.array(["a"] * 6)}, "s.npz", "'y' has the dtype <U1.*encode labels"),
    "too large": ({"x": np.full((6, 4), 1e300), "y": Y}, "s.npz", "that float32 cannot hold"),
    "ids too large": (
        {"image": X.reshape(6, 2, 2), "ids": np.full((6, 3), 2**63, np.uint64)},
        "s.npz",
        "that int64 cannot hold",
    ),
    "no callable": ({}, "data.py:none", "no callable 'none'"),
    "no batches": ({}, "data.py:nothing", "yields no batches"),
    "not batches": ({}, "data.py:a_number", "returned int"),
    "strings": ({}, "data.py:strings", "yields str where an array is wanted"),
    "single samples": ({}, "data.py:single_samples", "batches of 'y' have different shapes|shape"),
    "batches of other shapes": ({}, "data.py:growing", r"'x' have different shapes: \[3\], \[4\]"),
    "labels that vanish": ({}, "data.py:changing", "different structure"),
    "code that raises": ({}, "data.py:raising", "data.py line 50: RuntimeError: the disk is gone"),
    "code that exits": ({}, "data.py:leaving", r"called sys.exit\(3\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_samples(case, folder):
    arrays, reference, said = WRONG[case]
    if arrays:
        save(folder, **arrays)
    with pytest.raises(InputError, match=f"(?s){said}") as caught:
        read(reference, folder, TWO if "image" in arrays else None)
    assert reference in str(caught.value), "the error names the file"
    if "shape" in case:
        assert "shape" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 but no more"])
def test_broken_npz(content, folder):
    (folder / "broken.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"broken.npz (is not an .npz file|cannot be read)"):
        read("broken.npz", folder)


def test_a_truncated_npz(folder):
    save(folder, x=X, y=Y)
    data = bytearray((folder / "s.npz").read_bytes())
    data[120:140] = b"\0" * 20
    (folder / "s.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"s\.npz"):
        read("s.npz", folder)


def test_a_pickle_is_never_opened(folder):
    """An array of objects would run its author's code."""

    class Trap:
        def __reduce__(self):
            return (open, (str(folder / "trapped"), "w"))

    np.savez(folder / "s.npz", x=np.array([Trap()], object))
    with pytest.raises(InputError):
        read("s.npz", folder)
    assert not (folder / "trapped").exists()


def test_raw_bytes_are_cast_and_said(folder):
    notes = []
    raw = np.arange(24, dtype=np.uint8).reshape(6, 4)
    samples = read(save(folder, x=raw, y=Y), folder, note=notes.append)
    np.testing.assert_array_equal(samples.inputs[0], raw.astype(np.float32))
    assert "cast from uint8 to float32" in notes[0] and "no scaling" in notes[0]


def test_doubles_are_cast_without_a_word(folder):
    notes = []
    read(save(folder, x=X.astype(np.float64), y=Y), folder, note=notes.append)
    assert notes == []


def test_preprocessing(folder):
    raw = RNG.integers(0, 255, (6, 5, 4, 3), np.uint8)
    how = Preprocessing(1 / 255, (0.5, 0.4, 0.3), (0.2, 0.1, 0.3), "NHWC->NCHW")
    net = signature(TensorSpec("image", (1, 3, 5, 4)))
    (ready,) = read(save(folder, x=raw, y=Y), folder, net, preprocessing=how).inputs
    expected = ((raw / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.1, 0.3]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ready, expected, atol=1e-6)
    (hint,) = peek("s.npz", folder, how)
    assert (hint.shape, hint.dtype) == ((3, 5, 4), "float32")


def test_preprocessing_is_the_board_s(folder):
    """The device's own code prepares raw samples to the very same bits."""
    from edgepack.device.run import preprocess

    raw = RNG.integers(0, 255, (6, 5, 4, 3), np.uint8)
    how = Preprocessing(1 / 255, (0.5, 0.4, 0.3), (0.2, 0.1, 0.3), "NHWC->NCHW")
    board = preprocess(raw, {"scale": how.scale, "mean": how.mean, "std": how.std, "layout": how.layout})
    np.testing.assert_array_equal(fitting.preprocess(raw, how), board)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (Preprocessing(mean=(0.1, 0.2)), "mean has 2 values, the samples' last axis has 3"),
        (Preprocessing(std=(0.0,)), "std holds a 0"),
        (Preprocessing(layout="NHWC->NCWX"), "does not fit samples of 4 axes"),
        (Preprocessing(layout="NHC->NCH"), "does not fit samples of 4 axes"),
    ],
)
def test_wrong_preprocessing(how, said):
    with pytest.raises(InputError, match=said):
        fitting.preprocess(np.zeros((2, 4, 4, 3), np.uint8), how)


@given(st.permutations("NHWC"), st.permutations("NHWC"))
def test_layouts_come_back(one, two):
    raw = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    there = fitting.preprocess(raw, Preprocessing(layout=f"{''.join(one)}->{''.join(two)}"))
    back = fitting.preprocess(there, Preprocessing(layout=f"{''.join(two)}->{''.join(one)}"))
    np.testing.assert_array_equal(back, raw)


def test_a_generator_that_never_ends(folder, monkeypatch):
    from edgepack.sources import data

    monkeypatch.setattr(data, "_MOST_BYTES", 1000)
    (folder / "data.py").write_text(
        "import itertools, numpy as np\ndef f(): return (np.zeros((1, 4)) for _ in itertools.count())"
    )
    with pytest.raises(InputError, match="batches that end"):
        read("data.py:f", folder, need_labels=False)


def test_training_from_an_npz(folder):
    data = load_training(save(folder, x=X, y=Y), folder, signature(), None, seed=3, batch_size=4)
    first, second = list(data.batches(0)), list(data.batches(1))
    assert [len(labels) for _, labels in first] == [4, 2]
    assert sorted(np.concatenate([labels for _, labels in first])) == list(range(6))
    orders = [np.concatenate([labels for _, labels in epoch]).tolist() for epoch in (first, second)]
    assert orders[0] != orders[1], "every epoch has an order of its own"
    again = load_training("s.npz", folder, signature(), None, seed=3, batch_size=4)
    assert [labels.tolist() for _, labels in again.batches(0)] == [labels.tolist() for _, labels in first]
    for (x,), labels in first:
        np.testing.assert_array_equal(x, X[labels])


def test_training_from_a_callable_begins_anew(folder):
    data = load_training("data.py:generator", folder, signature(), None)
    for _ in range(2):
        assert [len(labels) for _, labels in data.batches(0)] == [4, 2]


def test_training_s_digest_is_of_its_samples_in_any_order(folder):
    digests = {load_training(f"data.py:{name}", folder, signature(), None).digest for name in ("generator", "shuffled")}
    assert len(digests) == 1
    (folder / "data.py").write_text(CODE.replace("np.arange(24,", "np.arange(1, 25,"))
    assert load_training("data.py:shuffled", folder, signature(), None).digest not in digests


def test_training_is_checked_batch_by_batch(folder):
    with pytest.raises(InputError, match="shape"):
        load_training("data.py:growing", folder, signature(), None)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_the_digest_does_not_see_batches(sizes):
    data = np.arange(sum(sizes) * 2, dtype=np.float32).reshape(-1, 2)
    ends = list(itertools.accumulate(sizes))
    parts = [((data[end - size : end],), None) for size, end in zip(sizes, ends, strict=True)]
    assert fitting.unordered_digest("f", parts) == fitting.unordered_digest("f", [((data,), None)])
    assert fitting.unordered_digest("f", parts[::-1]) == fitting.unordered_digest("f", parts)
