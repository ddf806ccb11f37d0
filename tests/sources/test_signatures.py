"""Laws of settling shapes: what comes out is fixed, of batch 1, and never contradicts the file or the declaration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import InputError
from edgepack.model import TensorSpec
from edgepack.sources.signatures import clean_names, settle

SIZES = st.one_of(st.none(), st.integers(1, 6))


@given(st.lists(SIZES, max_size=4))
def test_settled_shapes_are_fixed_and_agree_with_the_file(rest):
    found = TensorSpec("x", (None, *rest))
    declared = TensorSpec("x", (1, *(size or 5 for size in rest)))
    (settled,) = settle("m.onnx", (found,), (declared,))
    assert settled == declared
    assert settle("m.onnx", (settled,), ()) == (settled,), "settling twice is settling once"


@given(st.lists(SIZES, max_size=4))
def test_without_a_declaration_only_the_batch_is_chosen(rest):
    found = TensorSpec("x", (None, *rest))
    if None in rest:
        with pytest.raises(InputError, match=f"dimension {rest.index(None) + 1} of its shape open"):
            settle("m.onnx", (found,), ())
    else:
        assert settle("m.onnx", (found,), ())[0].shape == (1, *rest)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_a_fixed_size_is_never_changed(rest, data):
    axis = data.draw(st.integers(0, len(rest) - 1))
    other = [size + (i == axis) for i, size in enumerate(rest)]
    with pytest.raises(InputError, match="only sizes shown as"):
        settle("m.onnx", (TensorSpec("x", (1, *rest)),), (TensorSpec("x", (1, *other)),))


def test_a_declared_layout_is_kept_and_a_dtype_is_the_file_s():
    found = TensorSpec("x", (1, 2, 2, 3), "int8")
    assert settle("m", (found,), (TensorSpec("x", (1, 2, 2, 3), "float32", "NHWC"),)) == (
        TensorSpec("x", (1, 2, 2, 3), "int8", "NHWC"),
    )


@pytest.mark.parametrize(
    ("names", "cleaned"),
    [
        (["serving_default_x:0"], ["x"]),
        (["x:0", "y:0"], ["x", "y"]),
        (["x:0", "x:1"], ["x:0", "x:1"]),
        (["serving_default_"], ["serving_default_"]),
        (["model/input"], ["model/input"]),
    ],
)
def test_names_lose_what_exporters_wrap_around_them(names, cleaned):
    assert clean_names(names) == cleaned
