from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepack.bundle import read_golden, write_golden
from edgepack.errors import InputError

DTYPES = st.sampled_from(["float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"])
ARRAYS = DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=5)))
TUPLES = st.lists(ARRAYS, min_size=1, max_size=12).map(tuple)


@given(TUPLES, TUPLES)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(inputs, outputs):
    data = write_golden(inputs, outputs)
    assert data == write_golden(inputs, outputs)
    back = read_golden(data)
    for wanted, found in zip((inputs, outputs), back, strict=True):
        assert len(wanted) == len(found)
        for one, other in zip(wanted, found, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert one.tobytes() == other.tobytes()


def test_numpy_reads_it_without_pickle_and_a_view_is_as_good_as_a_copy():
    wide = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    data = write_golden((wide.transpose(2, 0, 1), wide[:, ::2]), (wide.astype(">f4"),))
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert sorted(archive.files) == ["input_0", "input_1", "output_0"]
        np.testing.assert_array_equal(archive["input_0"], wide.transpose(2, 0, 1))
        np.testing.assert_array_equal(archive["input_1"], wide[:, ::2])
        np.testing.assert_array_equal(archive["output_0"], wide)
    assert data == write_golden((np.ascontiguousarray(wide.transpose(2, 0, 1)), wide[:, ::2].copy()), (wide,))


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy(array, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def saved(save=np.savez, **members) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **members)
    return buffer.getvalue()


ONE = npy(np.ones(3, np.float32))


def shaped(shape: str) -> bytes:
    """Three floats that say that they are `shape`."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(12)


BROKEN = {
    "nothing": b"",
    "text": b"hello",
    "pickled objects": npz(input_0=npy(np.array([{}], object), allow_pickle=True), output_0=ONE),
    "compressed": saved(np.savez_compressed, input_0=np.zeros(1000), output_0=np.zeros(1)),
    "a gap": saved(input_0=np.zeros(1), input_2=np.zeros(1), output_0=np.zeros(1)),
    "no outputs": saved(input_0=np.zeros(1)),
    "no inputs": saved(output_0=np.zeros(1)),
    "something else": saved(input_0=np.zeros(1), output_0=np.zeros(1), x=np.zeros(1)),
    "not an array": npz(input_0=b"abc", output_0=ONE),
    "more than it has": npz(input_0=shaped("(4,)"), output_0=ONE),
    "far more than memory": npz(input_0=shaped("(999999999999, 999999999999)"), output_0=ONE),
    "a negative size": npz(input_0=shaped("(-3,)"), output_0=ONE),
    "code for a shape": npz(input_0=shaped("(__import__('os').getpid(),)"), output_0=ONE),
    "a header without end": npz(input_0=shaped("(" * 60_000), output_0=ONE),
    "columns first": npz(input_0=npy(np.asfortranarray(np.ones((2, 3)))), output_0=ONE),
    "cut short": saved(input_0=np.zeros(100), output_0=np.zeros(1))[:-150],
}


def test_the_header_in_these_cases_is_a_good_one_but_for_its_shape():
    inputs, _ = read_golden(npz(input_0=shaped("(3,)"), output_0=ONE))
    assert inputs[0].shape == (3,)


@pytest.mark.parametrize("kind", BROKEN)
def test_anything_else_is_refused(kind):
    with pytest.raises(InputError, match="golden samples cannot be read"):
        read_golden(BROKEN[kind])


@given(st.integers(0), st.integers(1, 255), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_damage_is_refused_or_harmless(place, flip, cut):
    data = bytearray(write_golden((np.ones((1, 4), np.float32),), (np.zeros((1, 2), np.int8),)))
    data[place % len(data)] ^= flip
    try:
        inputs, outputs = read_golden(bytes(data[: len(data) - cut]))
    except InputError:
        return
    assert len(inputs) == len(outputs) == 1
