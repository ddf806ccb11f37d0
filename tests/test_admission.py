"""The host's decision and the board's, on the same cases and on any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edgepack import admission, record, target
from edgepack.admission import Admitted, Evidence, Refused, Rule, Subject
from edgepack.device import admission as board
from edgepack.device import trust
from edgepack.device.faults import Fault
from edgepack.errors import EdgepackError, InputError, UsageError
from edgepack.record import ReleaseRecord

CASES = sorted((Path(__file__).parent / "cases/trust").glob("*.json"))


def on_the_board(raw: dict[str, Any]) -> board.Evidence:
    """The same evidence as the agent holds it."""
    values = dict(raw)
    values["subject"] = board.Subject(**raw["subject"])
    if raw.get("record"):
        values["record"] = board.decode(msgspec.json.encode(raw["record"], order="sorted"))
    if raw.get("device"):
        values["device"] = board.Device(**raw["device"])
    return board.Evidence(**values)


def host_says(evidence: Evidence) -> dict[str, str]:
    verdict = admission.judge(evidence)
    if isinstance(verdict, Refused):
        return {"refused": verdict.rule}
    return {"assurance": verdict.assurance, "key": verdict.key}


def board_says(evidence: board.Evidence) -> dict[str, str]:
    verdict = board.judge(evidence)
    return {"refused": verdict.rule} if verdict.rule else {"assurance": verdict.assurance, "key": verdict.key}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_host_and_the_board_decide_a_known_case(path: Path) -> None:
    case = json.loads(path.read_bytes())
    assert host_says(msgspec.convert(case["evidence"], Evidence)) == case["outcome"]
    assert board_says(on_the_board(case["evidence"])) == case["outcome"]


def test_every_rule_has_a_case() -> None:
    refused = {json.loads(path.read_bytes())["outcome"].get("refused") for path in CASES}
    assert refused - {None} == set(get_args(Rule))


KEYS = st.sampled_from(["SHA256:a", "SHA256:b"])
VERSIONS = st.sampled_from(["1.0.0", "1.0.0-rc.1", "1.9.0", "1.10.0", "2.0.0+x"])
TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"])
CLOCKS = st.sampled_from([0, record.seconds("2026-03-01T00:00:00Z"), record.seconds("2036-01-01T00:00:00Z")])
SUBJECTS = st.builds(
    Subject,
    bundle=st.just("sha256:" + "b" * 64),
    manifest=st.just("sha256:" + "a" * 64),
    name=st.sampled_from(["kws", "ic"]),
    version=VERSIONS,
    profile=st.just("rpi4"),
)
WORDS = st.sampled_from(["ring=canary", "site!=x", "not ring=canary", "(site=x or ring=canary)"])
SCOPES = st.lists(st.sampled_from(["kitchen", "cellar"]) | WORDS, max_size=2).map(tuple)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    subject = draw(SUBJECTS)
    meant = draw(st.just(subject) | SUBJECTS)
    signed = ReleaseRecord(
        **structs.asdict(meant),
        issued="2026-01-01T00:00:00Z",
        expires=draw(st.sampled_from(["", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"])),
        targets=draw(SCOPES),
        allows_downgrade_from=draw(st.just("") | VERSIONS),
    )
    return Evidence(
        subject=subject,
        record=draw(st.none() | st.just(signed)),
        signer=draw(KEYS),
        trusted=draw(st.lists(KEYS, unique=True).map(tuple)),
        revoked=draw(st.lists(KEYS, max_size=1).map(tuple)),
        required=draw(st.booleans()),
        allow_unsigned=draw(st.booleans()),
        downgrade=draw(st.booleans()),
        highest=draw(st.just("") | VERSIONS),
        clock=draw(CLOCKS),
        floor=draw(CLOCKS),
        device=draw(st.none() | st.just(admission.Device("kitchen", {"ring": "canary"}))),
    )


@given(evidences())
@settings(max_examples=400, deadline=None)
def test_the_board_decides_as_the_host_does(evidence: Evidence) -> None:
    said = host_says(evidence)
    assert board_says(on_the_board(msgspec.to_builtins(evidence))) == said
    if "refused" in said:
        error = admission.explain(admission.judge(evidence).rule, evidence, "target 'kitchen'")  # type: ignore[union-attr]
        fault = trust.refusal(board.Verdict(said["refused"]), on_the_board(msgspec.to_builtins(evidence)))
        assert (error.exit_code, fault.kind) in ((6, "trust"), (4, "gate"))
        assert evidence.subject.version in error.what and evidence.subject.version in fault.what


@given(evidences())
@settings(max_examples=400, deadline=None)
def test_what_is_called_signed_was_signed_by_a_key_that_is_trusted_now(evidence: Evidence) -> None:
    verdict = admission.judge(evidence)
    if isinstance(verdict, Admitted) and verdict.assurance == "signed":
        assert evidence.record is not None and verdict.key == evidence.signer
        assert evidence.signer in evidence.trusted and evidence.signer not in evidence.revoked
        assert evidence.record.bundle == evidence.subject.bundle and evidence.record.name == evidence.subject.name
    if isinstance(verdict, Admitted) and evidence.required and not evidence.allow_unsigned:
        assert verdict.assurance == "signed"


@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(st.sampled_from(["and", "or"]), min_size=3, max_size=3))
def test_the_board_reads_label_expressions_as_the_host_does(words: list[str], between: list[str]) -> None:
    text = words[0] + "".join(f" {joint} {word}" for joint, word in zip(between, words[1:], strict=False))
    for labels in ({}, {"ring": "canary"}, {"site": "x"}, {"ring": "canary", "site": "x"}):
        assert board._Expression(text, labels).holds() == target.expression(text)(labels), text


@given(st.text(alphabet="ab=!() not and or", max_size=20))
def test_the_board_refuses_the_expressions_that_the_host_refuses(text: str) -> None:
    try:
        host: Any = target.expression(text)({"a": "b"})
    except UsageError:
        host = None
    try:
        here: Any = board._Expression(text, {"a": "b"}).holds()
    except ValueError:
        here = None
    assert here == host


def a_record(**changes: Any) -> ReleaseRecord:
    plain = ReleaseRecord(
        bundle="sha256:" + "b" * 64, manifest="sha256:" + "a" * 64, name="kws", version="1.1.0", profile="rpi4",
        issued="2026-01-01T00:00:00Z", expires="2026-04-01T00:00:00Z", targets=("kitchen", "ring=canary"),
        allows_downgrade_from="1.2.0",
    )  # fmt: skip
    return structs.replace(plain, **changes)


def test_both_read_the_same_record() -> None:
    found, here = record.decode(a_record().encode(), "x"), board.decode(a_record().encode())
    assert found == a_record()
    assert {field: getattr(here, field) for field in here._fields} == {
        field: getattr(found, field) for field in here._fields
    }


WRONG = {
    "another schema": a_record().encode().replace(b"record/1", b"record/2"),
    "an unknown field": a_record().encode().replace(b'{"allows', b'{"a":1,"allows'),
    "a missing field": a_record().encode().replace(b'"targets":["kitchen","ring=canary"],', b""),
    "a space": a_record().encode().replace(b'","', b'", "', 1),
    "a field twice": a_record().encode().replace(b'"name":"kws"', b'"name":"kws","name":"kws"'),
    "another order": a_record().encode().replace(b'"name":"kws","profile":"rpi4"', b'"profile":"rpi4","name":"kws"'),
    "an escape": a_record().encode().replace(b"kitchen", rb"\u006bitchen"),
    "an evil name": a_record().encode().replace(b'"kws"', b'"../kws"'),
    "no version": a_record().encode().replace(b'"1.1.0"', b'"latest"'),
    "no digest": a_record().encode().replace(b"sha256:aaaa", b"sha256:AAAA"),
    "no time": a_record().encode().replace(b"2026-01-01T", b"2026-13-01T"),
    "expired when it was issued": a_record().encode().replace(b"2026-04-01", b"2025-04-01"),
    "a wrong expression": a_record().encode().replace(b"ring=canary", b"ring=canary or"),
    "a number for a name": a_record().encode().replace(b'"kws"', b"17"),
    "targets that are no list": a_record().encode().replace(b'["kitchen","ring=canary"]', b'"kitchen"'),
    "no JSON": b"{",
    "a list": b"[]",
    "nesting": b"[" * 100_000,
    "not ASCII": a_record().encode().replace(b"kitchen", "kitchén".encode()),
    "too long": structs.replace(a_record(), targets=("x" * 60,) * 400).encode(),
    "nothing": b"",
}


@pytest.mark.parametrize("case", WRONG)
def test_both_refuse_a_record_that_is(case: str) -> None:
    with pytest.raises(InputError, match="not a release record"):
        record.decode(WRONG[case], "x")
    with pytest.raises(Fault, match="cannot be read"):
        board.decode(WRONG[case])


@given(st.integers(0, len(a_record().encode()) - 1), st.binary(max_size=3))
@settings(max_examples=300, deadline=None)
def test_a_garbled_record_is_read_the_same_way_or_by_neither(at: int, noise: bytes) -> None:
    data = a_record().encode()
    data = data[:at] + noise + data[at + len(noise) :]
    try:
        host: ReleaseRecord | None = record.decode(data, "x")
    except EdgepackError:
        host = None
    try:
        here: board.ReleaseRecord | None = board.decode(data)
    except Fault:
        here = None
    if host is not None:
        assert here is not None and structs.astuple(host)[1:] == (*here[:6], here.expires, here.targets, here[8])
