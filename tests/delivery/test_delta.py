"""Deltas: what is made of an old file and a payload is the new file, whatever they hold; what is evil makes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack import boards, delivery, digest, store
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.delivery.delta import decide
from edgepack.delivery.delta.align import LITERAL, Layout, align
from edgepack.delivery.delta.decide import Case
from edgepack.delivery.delta.encode import encode, prepare
from edgepack.delivery.delta.making import Blob, Workshop
from edgepack.delivery.delta.tensors import Tensor, locate
from edgepack.device import delta
from edgepack.device.faults import Fault
from edgepack.target import Target

MakeBundle = Callable[..., Bundle]
RNG = np.random.default_rng(5)


class Board:
    """The folders of a board's blobs, and the agent's own code to fill them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for kind in ("sha256", "partial"):
            (folder / "blobs" / kind).mkdir(parents=True, exist_ok=True)

    def keep(self, data: bytes) -> str:
        name = digest.of_bytes(data)
        (self.root / "blobs/sha256" / digest.hex_of(name)).write_bytes(data)
        return name

    def apply(self, payload: bytes, new: bytes, size: int | None = None) -> bytes:
        path = self.root / "payload"
        path.write_bytes(payload)
        goal = digest.of_bytes(new)
        delta.apply(str(self.root), str(path), goal, len(new) if size is None else size)
        return (self.root / "blobs/sha256" / digest.hex_of(goal)).read_bytes()

    def made(self) -> set[str]:
        return {path.name for path in self.root.rglob("*") if path.is_file()} - {"payload"}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def payload_of(new: bytes, old: bytes, codec: str, ours: list[Tensor] | None = None) -> bytes:
    layouts = [
        Layout(ours if ours is not None else locate(io.BytesIO(data), len(data)), len(data)) for data in (new, old)
    ]
    files = io.BytesIO(new), io.BytesIO(old)
    recipe = prepare(align(layouts[0], layouts[1]), len(new), *files, digest.of_bytes(old))
    return b"".join(encode(recipe, codec, *files))  # type: ignore[arg-type]


def packed(header: object, body: bytes = b"", codec: bytes = b"z") -> bytes:
    data = json.dumps(header).encode() + b"\n" + body
    return delta.MAGIC + codec + (zlib.compress(data) if codec == b"z" else lzma.compress(data))


def onnx(tensors: list[tuple[str, bytes]], title: str = "g") -> bytes:
    """A model file of float tensors, field by field as onnx.proto says."""

    def field(number: int, data: bytes) -> bytes:
        size, head = len(data), bytearray()
        while size > 127:
            head.append(size & 127 | 128)
            size >>= 7
        return bytes([number << 3 | 2, *head, size]) + data

    made = [field(5, b"\x10\x01" + field(8, name.encode()) + field(9, data)) for name, data in tensors]
    return b"\x08\x09" + field(7, field(2, title.encode()) + b"".join(made))


def floats(count: int) -> bytes:
    return RNG.normal(0, 0.05, count).astype("<f4").tobytes()


@settings(max_examples=60, deadline=None)
@given(old=st.binary(max_size=3000), new=st.binary(max_size=3000), codec=st.sampled_from("zx"), data=st.data())
def test_any_two_files(old: bytes, new: bytes, codec: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, min(len(old), len(new))), max_size=6)))
    tensors = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        width = data.draw(st.sampled_from([1, 2, 4, 8]))
        tensors.append(Tensor(f"t{start}", start, (end - start) // width * width, width))
    with tempfile.TemporaryDirectory() as folder:
        board = Board(Path(folder))
        board.keep(old)
        assert board.apply(payload_of(new, old, codec, tensors), new) == new


@given(
    before=st.binary(min_size=8, max_size=64),
    after=st.binary(min_size=8, max_size=64),
    width=st.sampled_from([1, 2, 4, 8]),
)
def test_lanes_wrap_around_and_do_not_touch(before: bytes, after: bytes, width: int) -> None:
    size = min(len(before), len(after)) // 8 * 8
    ours, theirs = (np.frombuffer(data[:size], f"<u{width}") for data in (after, before))
    difference = (ours - theirs).view(f"<i{width}")
    coded = ((difference << 1) ^ (difference >> (8 * width - 1))).tobytes()
    assert delta.add(before[:size], coded, width, delta._masks(size, width)) == after[:size]


def test_more_than_a_block_of_every_width(board: Board) -> None:
    old = b"".join(floats(200_000) for _ in range(2))
    new = bytearray(old)
    new[500_000:500_100] = floats(25)
    board.keep(old)
    for width in (1, 2, 4, 8):
        tensors = [Tensor("t", 8, len(old) - 16, width)]
        assert board.apply(payload_of(bytes(new), old, "z", tensors), bytes(new)) == new


def test_slightly_retrained_floats_take_half_although_everything_moved(board: Board) -> None:
    weights = [floats(20_000) for _ in range(4)]
    moved = [(np.frombuffer(w, "<f4") * (1 + RNG.normal(0, 1e-3, 20_000))).astype("<f4").tobytes() for w in weights]
    old = onnx([(f"w{i}", w) for i, w in enumerate(weights)])
    new = onnx(
        [(f"w{i}", w) for i, w in enumerate(moved)], title="a graph of another name, so that no offset is the same"
    )
    assert [t.length for t in locate(io.BytesIO(new), len(new))] == [80_000] * 4
    board.keep(old)
    payload = payload_of(new, old, "z")
    assert board.apply(payload, new) == new
    assert len(payload) < 0.53 * len(new)


def test_a_retrained_head_costs_the_head(board: Board) -> None:
    body = [(f"w{i}", floats(20_000)) for i in range(4)]
    old, new = onnx([*body, ("head", floats(2_000))]), onnx([*body, ("head", floats(2_000))], "other")
    board.keep(old)
    payload = payload_of(new, old, "z")
    assert board.apply(payload, new) == new and len(payload) < 9_000


def test_the_tensors_of_real_files_are_found(affine: bytes, tmp_path: Path) -> None:
    names = {tensor.name: tensor for tensor in locate(io.BytesIO(affine), len(affine))}
    assert set(names) == {"w"} and names["w"][2:] == (48, 4), "smaller ones are not worth it"
    at = names["w"].start
    assert np.frombuffer(affine[at : at + 48], "<f4").tolist() == [1.0] * 12


@pytest.fixture
def affine() -> bytes:
    onnx_library = pytest.importorskip("onnx")
    helper, numpy_helper = onnx_library.helper, onnx_library.numpy_helper
    weights = [
        numpy_helper.from_array(np.ones((4, 3), np.float32), "w"),
        numpy_helper.from_array(np.ones(3, np.float32), "b"),
    ]
    data: bytes = helper.make_model(helper.make_graph([], "g", [], [], weights)).SerializeToString()
    return data


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x10\x00\x00\x00TFL3", b"\x08\x09\x3a"]))
def test_no_file_crashes_the_search(data: bytes, head: bytes) -> None:
    for tensor in locate(io.BytesIO(head + data), len(head + data)):
        assert 0 <= tensor.start <= tensor.start + tensor.length <= len(head + data)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(0, 3)), max_size=8), st.integers(0, 5))
def test_spans_cover_the_new_file_and_stay_inside_the_old_one(shape: list[tuple[str, int, int]], tail: int) -> None:
    def layout(parts: list[tuple[str, int, int]]) -> Layout:
        at, tensors = 0, []
        for name, count, gap in parts:
            tensors.append(Tensor(name, at + gap, 4 * count, 4))
            at += gap + 4 * count
        return Layout(tensors, at + tail)

    new, old = layout(shape), layout(shape[::-1])
    spans = align(new, old)
    assert sum(span.length for span in spans) == new.size
    assert all(span.start == LITERAL or 0 <= span.start <= old.size - span.length for span in spans)


OLD, NEW = b"0123456789abcdef" * 40, b"0123456789abcdeg" * 40
BASE = digest.of_bytes(OLD)
EVIL = {
    "no delta": b"PK\x03\x04 something else",
    "another codec": delta.MAGIC + b"q" + zlib.compress(b"x"),
    "cut short": payload_of(NEW, OLD, "z")[:-9],
    "cut short, xz": payload_of(NEW, OLD, "x")[:-20],
    "flipped": payload_of(NEW, OLD, "z")[:-30] + bytes(30),
    "trailing": payload_of(NEW, OLD, "z") + b"x",
    "no json": delta.MAGIC + b"z" + zlib.compress(b"{\n"),
    "a header without end": delta.MAGIC + b"z" + zlib.compress(bytes(64 << 20)),
    "a header of lists": packed([1, 2]),
    "deep": delta.MAGIC + b"z" + zlib.compress(b"[" * 100_000 + b"\n"),
    "another size": packed({"base": "", "size": 5, "spans": [[-1, 5, 1]]}, b"12345"),
    "a bomb": packed({"base": "", "size": 640, "spans": [[-1, 640, 1]]}, bytes(1 << 24)),
    "too little": packed({"base": "", "size": 640, "spans": [[-1, 640, 1]]}, bytes(100)),
    "spans that do not add up": packed({"base": "", "size": 640, "spans": [[-1, 641, 1]]}, bytes(641)),
    "a negative span": packed({"base": "", "size": 640, "spans": [[-1, 1280, 1], [-1, -640, 1]]}, bytes(640)),
    "a width of none": packed({"base": "", "size": 640, "spans": [[-1, 640, 0]]}, bytes(640)),
    "an uneven width": packed({"base": "", "size": 640, "spans": [[-1, 3, 2], [-1, 637, 1]]}, bytes(640)),
    "a boolean": packed({"base": "", "size": 640, "spans": [[-1, 640, True]]}, bytes(640)),
    "too many spans": packed({"base": "", "size": 640, "spans": [[-1, 0, 1]] * 70_000 + [[-1, 640, 1]]}, bytes(640)),
    "beyond its base": packed({"base": BASE, "size": 640, "spans": [[10, 640, 1]]}, bytes(640)),
    "a base far away": packed({"base": BASE, "size": 640, "spans": [[1 << 62, 640, 1]]}, bytes(640)),
    "no base": packed({"base": "", "size": 640, "spans": [[0, 640, 1]]}, bytes(640)),
    "a base that is a path": packed({"base": "sha256:../../../../etc/passwd", "size": 640, "spans": [[0, 640, 1]]}, bytes(640)),
    "a base that is not here": packed({"base": digest.of_bytes(b"gone"), "size": 640, "spans": [[0, 640, 1]]}, bytes(640)),
    "another result": packed({"base": BASE, "size": 640, "spans": [[0, 640, 1]]}, bytes(640)),
    "a dictionary of a gigabyte": delta.MAGIC
    + b"x"
    + lzma.compress(b"{}\n", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 26}]),
}  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_an_evil_payload_makes_nothing(board: Board, name: str) -> None:
    board.keep(OLD)
    before = board.made()
    with pytest.raises(Fault) as caught:
        board.apply(EVIL[name], NEW, 640)
    assert caught.value.kind in ("trust", "input")
    assert board.made() == before


def test_what_is_worth_making() -> None:
    case = Case(size=10_000_000, left=10_000_000, estimate=1_000_000, rate=100e6, codecs=("x", "z"))
    assert decide.worth(case) == (), "on a fast link nothing pays"
    assert decide.worth(case._replace(rate=1.25e6)) == ("z",)
    assert decide.worth(case._replace(rate=0.25e6)) == ("z", "x"), "on a slow one everything does"
    assert decide.worth(case._replace(rate=0.25e6, codecs=("z",))) == ("z",), "a Python without lzma"
    assert decide.worth(case._replace(rate=0.25e6, size=10**9, left=10**9)) == ("z",), (
        "xz would take a quarter of an hour"
    )
    assert decide.worth(case._replace(rate=1e3, left=900_000)) == (), "most of it has arrived already"
    assert decide.smallest([(10, "a"), (9, "b")], 100) == "b"
    assert decide.smallest([(10, "a")], 10) is None and decide.smallest([], 10) is None


def test_a_candidate_is_made_once_and_is_never_larger_than_the_whole(test_home: Path) -> None:
    workshop = Workshop()
    old, new, noise = floats(20_000), floats(20_000), RNG.bytes(50_000)
    blobs = [Blob(digest.of_bytes(data), len(data), lambda data=data: io.BytesIO(data)) for data in (old, new, noise)]  # type: ignore[misc]
    first = workshop.make(blobs[1], blobs[0], blobs[1].size, 1e3, ("x", "z"))
    assert first is not None and first.size < blobs[1].size and first.digest == digest.of_file(first.path)
    stamp = first.path.stat().st_mtime_ns
    again = workshop.make(blobs[1], blobs[0], blobs[1].size, 1e3, ("x", "z"))
    assert again == first and first.path.stat().st_mtime_ns == stamp and first in workshop.known(blobs[1].digest)
    assert workshop.make(blobs[2], None, blobs[2].size, 1e3, ("x", "z")) is None


def slow(target: Target, home: Path) -> Target:
    """The target as if its link had been measured at 2 Mbit/s."""
    (home / "links").mkdir(exist_ok=True)
    (home / "links" / f"{target.name}.json").write_text('{"rate":250000.0}')
    return target


def push(bundle: Bundle, target: Target) -> delivery.PushResult:
    (result,) = delivery.push(bundle, [target], allow_unsigned=True, downgrade=False, progress=Plain())
    return result


@pytest.fixture
def updated(make_bundle: MakeBundle, board_target: Target, test_home: Path) -> tuple[Bundle, Bundle, Target]:
    """Two releases of 160 KB, the first on the board and in this host's store."""
    old, new = make_bundle("1.0.0", padding=160_000), make_bundle("1.1.0", bias=2.0, padding=160_000)
    store.add(old, "test")
    target = slow(board_target, test_home)
    assert push(old, target).outcome == "activated"
    return old, new, slow(target, test_home)


@pytest.fixture
def board_target(test_home: Path, progress: Plain):  # type: ignore[no-untyped-def]
    (target,) = boards.up("delta", "loopback", "", 1, progress)
    yield target
    boards.down(target.name, progress)


@pytest.mark.frameworks
@pytest.mark.board
def test_an_update_sends_the_difference(updated: tuple[Bundle, Bundle, Target], test_home: Path) -> None:
    _, new, target = updated
    result = push(new, target)
    assert result.outcome == "activated" and "deltas" in result.reason
    assert result.bytes_sent < 3_000
    held = test_home / "boards" / target.name / "home/.edgepack/current/sum" / new.manifest.default
    assert digest.of_file(held) == new.manifest.variants[0].digest
    partial = test_home / "boards" / target.name / "home/.edgepack/blobs/partial"
    assert not list(partial.iterdir())


@pytest.mark.frameworks
@pytest.mark.board
def test_a_base_that_broke_on_the_board_is_noticed_and_the_whole_is_sent(
    updated: tuple[Bundle, Bundle, Target], test_home: Path
) -> None:
    old, new, target = updated
    base = (
        test_home
        / "boards"
        / target.name
        / "home/.edgepack/blobs/sha256"
        / digest.hex_of(old.manifest.variants[0].digest)
    )
    data = bytearray(base.read_bytes())
    data[1000] ^= 4
    base.chmod(0o644)
    base.write_bytes(data)
    result = push(new, target)
    assert result.outcome == "activated" and "sending all of it again" in result.reason
    assert result.bytes_sent > new.manifest.variants[0].size


@pytest.mark.frameworks
@pytest.mark.board
def test_a_release_that_this_host_never_had_is_no_base_and_that_is_said(
    make_bundle: MakeBundle, board_target: Target, test_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = slow(board_target, test_home)
    push(make_bundle("2.0.0", padding=20_000, name="lost"), target)
    result = push(make_bundle("2.1.0", bias=2.0, padding=20_000, name="lost"), slow(target, test_home))
    assert result.outcome == "activated" and "not in this host's store" in capfd.readouterr().err


def test_a_delta_that_is_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    """Through the agent's own `receive`: the payload arrives in two pieces, the second only brings what was missing."""
    from edgepack.device import receive
    from edgepack.device.requests import BlobPart, ReceiveRequest

    old = floats(300_000)
    new = (np.frombuffer(old, "<f4") * np.float32(1.001)).tobytes()
    board = Board(tmp_path)
    board.keep(old)
    payload = payload_of(new, old, "z", [Tensor("t", 0, len(new), 4)])
    name, goal = digest.of_bytes(payload), digest.of_bytes(new)
    source = tmp_path / "stream"

    def send(data: bytes, offset: int) -> None:
        source.write_bytes(data)
        with source.open("rb") as file:
            part = BlobPart(name, len(payload), offset, goal, len(new))
            receive.receive(str(tmp_path), ReceiveRequest((part,)), receive.Stream(file.fileno()))

    with pytest.raises(Fault, match="ended"):
        send(payload[:400_000], 0)
    (state,) = receive.states(str(tmp_path), (), False)
    assert (state["digest"], state["bytes"]) == (name, 400_000)
    send(payload[400_000:], 400_000)
    assert hashlib.sha256((tmp_path / "blobs/sha256" / digest.hex_of(goal)).read_bytes()).hexdigest() == digest.hex_of(
        goal
    )
    assert not list((tmp_path / "blobs/partial").iterdir())
