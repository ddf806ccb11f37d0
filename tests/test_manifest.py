from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack import digest, manifest
from edgepack.errors import InputError
from edgepack.manifest import LockRecord, Manifest, ProfileRecord, Provenance, SourceRecord, VariantRecord, decode
from edgepack.model import Preprocessing, Signature, TensorSpec
from edgepack.profile import Budget, RuntimeRange
from edgepack.recipe import Convert, Prune, Quantize, Recover, Rehearse
from edgepack.variant import Parity

SCHEMA_FILE = Path(__file__).parent.parent / "docs/schema/manifest-1.json"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
DIGESTS = st.binary(max_size=3).map(digest.of_bytes)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PRECISIONS = st.sampled_from(["fp32", "fp16", "w8", "w8d", "w8a8", "w8a16", "w4", "mixed"])
TENSORS = st.builds(TensorSpec, TEXT, st.lists(st.none() | st.integers(1, 99), max_size=4).map(tuple), layout=TEXT)
STEPS = (
    st.builds(Prune, NUMBERS)
    | st.builds(Recover, st.integers(1, 9))
    | st.builds(Rehearse, PRECISIONS)
    | st.builds(Convert, st.sampled_from(["onnx", "tflite"]))
    | st.builds(Quantize, PRECISIONS)
)


@st.composite
def variants(draw: st.DrawFn) -> tuple[VariantRecord, ...]:
    """Sizes follow from digests, as in a real bundle: one blob has one size."""
    found = []
    for i in range(draw(st.integers(1, 3))):
        blobs = draw(st.lists(DIGESTS, min_size=2, max_size=2, unique=True))
        found.append(
            VariantRecord(
                id=f"kws.rpi4.w8a8.{i}",
                format=draw(st.sampled_from(["onnx", "tflite"])),
                runtime=draw(st.sampled_from(["litert", "onnxruntime"])),
                precision=draw(PRECISIONS),
                sparsity=draw(NUMBERS),
                digest=blobs[0],
                size=int(blobs[0][7:10], 16),
                score=draw(st.none() | NUMBERS),
                drop=draw(st.none() | NUMBERS),
                parity=Parity(*draw(st.tuples(NUMBERS, NUMBERS, NUMBERS))),
                recipe=tuple(draw(st.lists(STEPS, max_size=4))),
                golden=blobs[1],
                golden_size=int(blobs[1][7:10], 16),
                tolerance=tuple(draw(st.lists(NUMBERS, max_size=2))),
            )
        )
    return tuple(found)


MANIFESTS = st.builds(
    lambda found, **rest: Manifest(schema=manifest.SCHEMA, variants=found, default=found[-1].id, **rest),
    variants(),
    name=st.sampled_from(["kws", "a.b-c_d"]),
    version=st.sampled_from(["0.1.0", "1.2.3-rc.1+b"]),
    created=TEXT,
    profile=st.builds(ProfileRecord, st.just("rpi4"), DIGESTS),
    source=st.builds(SourceRecord, TEXT, DIGESTS, st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple)),
    signature=st.builds(Signature, st.tuples(TENSORS), st.tuples(TENSORS)),
    preprocessing=st.none() | st.builds(Preprocessing, NUMBERS, st.tuples(NUMBERS), st.tuples(NUMBERS, NUMBERS), TEXT),
    labels=st.lists(TEXT, max_size=3).map(tuple),
    metric=TEXT,
    baseline=st.none() | NUMBERS,
    runtimes=st.dictionaries(st.sampled_from(["litert", "onnxruntime"]), st.builds(RuntimeRange, TEXT)),
    locks=st.lists(DIGESTS.map(lambda d: LockRecord(d, int(d[7:10], 16), "litert", "3.11", "aarch64")), max_size=2).map(
        tuple
    ),
    gates=st.builds(Budget, NUMBERS),
    provenance=st.builds(Provenance, DIGESTS, st.none(), DIGESTS, st.none(), st.just(())),
)


@given(MANIFESTS)
@settings(deadline=None)
def test_a_manifest_survives_writing_and_reading(one):
    data = one.encode()
    assert decode(data, "f") == one
    assert decode(data, "f").encode() == data
    assert json.loads(data)["schema"] == manifest.SCHEMA
    assert "unknown" not in json.loads(data)


@given(MANIFESTS)
@settings(max_examples=25, deadline=None)
def test_it_lists_every_blob_it_needs(one):
    named = {record.digest for record in (*one.variants, *one.locks)} | {record.golden for record in one.variants}
    assert one.blobs().keys() == named


def everywhere(value: Any, made: str = "") -> Any:
    """Every object of a JSON document with one more field, but for maps, whose keys are people's."""
    if isinstance(value, list):
        return [everywhere(item) for item in value]
    if not isinstance(value, dict):
        return value
    extra = {} if made == "runtimes" else {"from_a_later_edgepack": [1, {"x": None}], "unknown": "x"}
    return {**{key: everywhere(inner, key) for key, inner in value.items()}, **extra}


@given(MANIFESTS)
@settings(max_examples=40, deadline=None)
def test_what_a_later_edgepack_added_survives_wherever_it_is(one):
    later = everywhere(json.loads(one.encode()))
    read = decode(json.dumps(later).encode(), "f")
    assert json.loads(read.encode()) == later
    assert msgspec.structs.replace(read, unknown={}) == one
    released = msgspec.structs.replace(read, version="9.0.0")
    assert json.loads(released.encode()) == {**later, "version": "9.0.0"}


def example() -> dict[str, Any]:
    blob = digest.of_bytes(b"model")
    variant = {
        "id": "kws.rpi4.w8a8.onnx", "format": "onnx", "runtime": "onnxruntime", "precision": "w8a8", "sparsity": 0.0,
        "digest": blob, "size": 5, "score": None, "drop": None, "parity": {"max_abs": 0, "relative": 0, "sqnr_db": 40},
        "recipe": [{"type": "convert", "format": "onnx"}], "golden": blob, "golden_size": 5, "tolerance": [0.1],
    }  # fmt: skip
    tensor = {"name": "x", "shape": [1, None], "dtype": "float32", "layout": ""}
    return {
        "schema": "edgepack.manifest/1", "name": "kws", "version": "1.2.0", "created": "1970-01-01T00:00:00Z",
        "profile": {"name": "rpi4", "digest": blob}, "source": {"format": "onnx", "digest": blob, "frameworks": []},
        "signature": {"inputs": [tensor], "outputs": [tensor]}, "preprocessing": None, "labels": [], "metric": "",
        "baseline": None, "variants": [variant], "default": "kws.rpi4.w8a8.onnx",
        "runtimes": {"onnxruntime": {"version": ">=1.19", "provider": "wheels"}}, "locks": [],
        "gates": {"max_drop": 0.01}, "provenance": {
            "plan": blob, "calibration": None, "evaluation": None, "training": None, "tools": [],
        },
    }  # fmt: skip


def test_the_example_of_these_tests_is_a_manifest():
    assert decode(json.dumps(example()).encode(), "f").variant("kws.rpi4.w8a8.onnx").size == 5


def changed(path: str, value: Any) -> dict[str, Any]:
    document = example()
    place: Any = document
    *before, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in before:
        place = place[part]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", "edgepack.manifest/2", "edgepack.manifest/2"),
        ("schema", None, "None"),
        ("name", "../x", "cannot be used"),
        ("name", 3, "name"),
        ("version", "1", "not a semantic version"),
        ("profile.name", "A", "cannot be used"),
        ("profile.digest", 3, "profile.digest"),
        ("default", "kws", "default variant"),
        ("variants", [], "default variant"),
        ("variants", example()["variants"] * 2, "two variants have one name"),
        ("variants.0.id", "a/b", "cannot be a file name"),
        ("variants.0.id", "..", "cannot be a file name"),
        ("variants.0.id", "a" * 161, "cannot be a file name"),
        ("variants.0.id", "a b", "cannot be a file name"),
        ("variants.0.digest", "sha256:x", "cannot be a blob"),
        ("variants.0.golden", "../x", "cannot be a blob"),
        ("variants.0.size", -1, "cannot be a blob"),
        ("variants.0.golden_size", 6, "cannot be a blob"),
        ("variants.0.runtime", "tensorrt", "tensorrt"),
        ("variants.0.recipe.0.type", "magic", "magic"),
        ("signature.inputs.0.shape", ["a"], "shape"),
    ],
)
def test_a_wrong_manifest_is_refused_by_file(path, value, message):
    with pytest.raises(InputError, match=message) as caught:
        decode(json.dumps(changed(path, value)).encode(), "THE FILE")
    assert caught.value.what.startswith("THE FILE: ")


@given(st.binary())
def test_bytes_that_are_no_manifest_are_refused(data):
    with pytest.raises(InputError, match=r"^THE FILE: "):
        decode(data, "THE FILE")


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"schema":' * 50_000, b"[]", b"null", b'"\\ud800"', b"1e999"])
def test_hostile_json_is_refused(data):
    with pytest.raises(InputError, match=r"^THE FILE: "):
        decode(data, "THE FILE")


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_refused_or_gives_a_manifest(data):
    document = bytearray(json.dumps(example()).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(document) - 1))
        document[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        read = decode(bytes(document), "f")
    except InputError:
        return
    assert decode(read.encode(), "f") == read


def test_an_unknown_variant_lists_the_known():
    with pytest.raises(InputError) as caught:
        decode(json.dumps(example()).encode(), "f").variant("other")
    assert "kws.rpi4.w8a8.onnx" in caught.value.expected


def test_the_published_schema_is_current(request):
    """After a change of the manifest: run this test with --update and look at what it changed."""
    if request.config.getoption("--update", default=False):
        SCHEMA_FILE.write_bytes(manifest.published_schema())
    assert SCHEMA_FILE.read_bytes() == manifest.published_schema()


def test_the_published_schema_knows_every_field_and_forbids_none():
    schema = json.loads(SCHEMA_FILE.read_text())
    assert schema["properties"].keys() == example().keys() | {"documents"}  # the first releases had none
    assert set(schema["required"]) == example().keys()
    definitions = [schema, *schema["$defs"].values()]
    assert not [d for d in definitions if d.get("additionalProperties") is False]
    assert schema["$defs"]["VariantRecord"]["properties"].keys() == example()["variants"][0].keys()
