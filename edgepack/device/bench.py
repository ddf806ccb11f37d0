"""Measure variants of installed releases: fresh processes of the runtime's own Python, each timed by itself.

This side knows the release and the board; a child (`bench_child.py`) knows a file and a protocol, and imports nothing but
`run.py` before it measures, so that its memory and its start are the model's. Every sample is kept: what they mean is decided
on the host.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from . import conditions, preflight, release, store, tuning
from . import runtime as runtimes
from .bench_protocol import Protocol, read_protocol
from .child import START_SECONDS, Child, Say
from .faults import Fault
from .requests import decode

SWEEP_PROCESSES = 2
_SWEEP_SHARE = 0.5
"""Of the headline's time and samples that a process of a sweep gets: it is there for the shape of the curve."""

_HANGS = "measure with fewer samples or a smaller model; a process that crashed may also hang under emulation"


class BenchRequest(NamedTuple):
    name: str
    release: str
    variant: str


class PairRequest(NamedTuple):
    """Two releases, or two variants of one, on one board."""

    first: BenchRequest
    second: BenchRequest


class Subject(NamedTuple):
    """What is measured. golden: an `.npz` of real samples, or nothing for seeded noise; python: the runtime's own."""

    variant: str
    runtime: str
    key: str
    model: str
    golden: str
    python: str


def run(root: str, request: Any, say: Say, tree: str = "/") -> Dict[str, Any]:
    """Answer a `BenchRequest` of `edgepack.protocol` with a `BenchReply`. say: told how far it is; tree: holds `/proc` and `/sys`

    Raises Fault where the release or its runtime is not there, or a process failed, was killed or hung.
    """
    raw = dict(request)
    protocol = read_protocol(raw.pop("protocol", {}))
    subject = find_subject(root, decode(BenchRequest, raw), protocol.inputs)
    with tuning.governor(root, protocol.governor, tree):
        session = _Session(protocol, say, tree)
        replies = session.headline([subject] * protocol.processes)
        reply = session.reply(subject, replies)
        reply.update(session.passes(subject))
        reply["after"] = conditions.read(tree)
    return reply


def run_pair(root: str, request: Any, say: Say, tree: str = "/") -> Dict[str, Any]:
    """Answer a `PairRequest`: A B B A, and again, one fresh process each, so that heat and load fall on both alike."""
    raw = dict(request)
    protocol = read_protocol(raw.pop("protocol", {}))
    asked = [decode(BenchRequest, dict(raw.get(side) or {})) for side in ("first", "second")]
    first, second = (find_subject(root, one, protocol.inputs) for one in asked)
    order = [
        subject for index in range(protocol.processes) for subject in ((first, second), (second, first))[index % 2]
    ]
    with tuning.governor(root, protocol.governor, tree):
        session = _Session(protocol, say, tree)
        replies = session.headline(order)
        sides = []
        for side, subject in enumerate((first, second)):
            mine = [replies[2 * index + (side ^ (index % 2))] for index in range(protocol.processes)]
            sides.append({**session.reply(subject, mine), **session.passes(subject)})
        after = conditions.read(tree)
    return {"first": {**sides[0], "after": after}, "second": {**sides[1], "after": after}}


class _Session:
    """One run on this board: the state before it, and what each process found."""

    def __init__(self, protocol: Protocol, say: Say, tree: str) -> None:
        self.protocol, self._say, self._tree = protocol, say, tree
        self._before = conditions.read(tree)
        self._cooler = preflight.Cooler(protocol.cool_to_c, protocol.cool_seconds, tree)
        self._looked = preflight.look(tree)
        self._between: List[Dict[str, Any]] = []
        self._notes: List[str] = []

    def headline(self, order: List[Subject]) -> List[Dict[str, Any]]:
        replies: List[Dict[str, Any]] = []
        for number, subject in enumerate(order, 1):
            beat = self._beat(subject, number, len(order))
            self._cooler.wait(_cooling(beat))
            if replies:
                self._between.append(conditions.read(self._tree))
            title = f"process {number} of {len(order)} ({subject.variant}, {subject.runtime})"
            replies.append(self._child(subject, "headline", title, self.protocol, beat))
        return replies

    def reply(self, subject: Subject, replies: List[Dict[str, Any]]) -> Dict[str, Any]:
        return {
            "variant": subject.variant,
            "runtime": subject.runtime,
            "runtime_version": replies[0]["runtime_version"],
            "lock": subject.key if subject.key.startswith("sha256:") else "",
            "build": replies[0]["build"],
            "delegates": replies[0]["delegates"],
            "processes": [reply["process"] for reply in replies],
            "harness_overhead_ns": max(reply["overhead_ns"] for reply in replies),
            "before": self._before,
            "between": self._between,
            "preflight": {**self._looked, "gate": self._cooler.gate()},
            "notes": self._notes,
        }

    def passes(self, subject: Subject) -> Dict[str, Any]:
        """What was asked for beside the headline, each in processes of its own."""
        asked: List[Tuple[bool, str, Callable[[Subject], Any]]] = [
            (self.protocol.cold, "cold", lambda one: self._pass(one, "cold")),
            (self.protocol.sweep_threads, "sweep", self._sweep),
            (self.protocol.ops, "ops", lambda one: self._pass(one, "ops")),
            (self.protocol.energy, "energy", self._energy),
            (self.protocol.sustained_seconds > 0, "sustained", lambda one: self._pass(one, "sustained")),
        ]
        return {name: make(subject) for wanted, name, make in asked if wanted}

    def _sweep(self, subject: Subject) -> List[Dict[str, Any]]:
        found = []
        counts = range(1, (len(self.protocol.pin) or os.cpu_count() or 1) + 1)
        for threads in counts:
            protocol = self.protocol._replace(
                threads=threads,
                seconds=self.protocol.seconds * _SWEEP_SHARE,
                most_samples=max(self.protocol.samples, int(self.protocol.most_samples * _SWEEP_SHARE)),
            )
            processes = []
            for number in range(1, SWEEP_PROCESSES + 1):
                beat = self._beat(subject, (threads - 1) * SWEEP_PROCESSES + number, len(counts) * SWEEP_PROCESSES)
                self._cooler.wait(_cooling(beat))
                title = f"process {number} with {threads} threads ({subject.variant}, {subject.runtime})"
                said = self._child(subject, "headline", title, protocol, _staged(beat, "sweep"))
                processes.append(said["process"])
            found.append({"threads": threads, "processes": processes})
        return found

    def _energy(self, subject: Subject) -> Any:
        if conditions.rails(tree=self._tree) is None:
            self._notes.append(
                "energy: this board has no sensor that edgepack can read (a Raspberry Pi 5's pmic_read_adc)"
            )
            return None
        return self._pass(subject, "energy")

    def _pass(self, subject: Subject, name: str) -> Any:
        title = f"the pass {name!r} ({subject.variant}, {subject.runtime})"
        said = self._child(subject, name, title, self.protocol, self._beat(subject, 1, 1))
        if said.get("note"):
            self._notes.append(f"{name}: {said['note']}")
        return said["found"]

    def _beat(self, subject: Subject, number: int, of: int) -> Say:
        return lambda one: self._say({"variant": subject.variant, "process": number, "processes": of, **one})

    def _child(self, subject: Subject, kind: str, title: str, protocol: Protocol, beat: Say) -> Dict[str, Any]:
        order = {
            "pass": kind,
            "model": subject.model,
            "runtime": subject.runtime,
            "golden": subject.golden,
            "protocol": protocol._asdict(),
            "tree": self._tree,
        }
        beat({"stage": "starting"})
        seconds = START_SECONDS + 2 * (protocol.seconds + protocol.sustained_seconds)
        child = Child(subject.python, f"{__package__}.bench_child", title, seconds, _HANGS)
        reply, said = child.ask(order, beat)
        reply["delegates"] = [*reply.get("delegates", ()), *(["XNNPACK"] if "XNNPACK delegate" in said else [])]
        return reply


def _cooling(beat: Say) -> Callable[[float], None]:
    return lambda heat: beat({"stage": "cooling", "temperature_c": heat})


def _staged(beat: Say, stage: str) -> Say:
    return lambda one: beat({**one, "stage": stage})


def find_subject(root: str, asked: BenchRequest, inputs: str) -> Subject:
    """The files of one variant of an installed release. Raises Fault naming what is missing."""
    record = release.read(root, asked.name, asked.release)
    if record is None:
        raise Fault(
            "board",
            f"{asked.name} {asked.release[:19]} is not installed on this board",
            expected=store.release_folder(root, asked.name, asked.release),
            advice="edgepack push the bundle first",
        )
    id = asked.variant or record.variant
    if id not in record.variants:
        raise Fault(
            "board",
            f"variant {id!r} of {asked.name} is not installed on this board",
            expected=f"one of {', '.join(record.variants)}",
            advice=f"edgepack push BUNDLE TARGET --variant {id} installs it beside the active one",
        )
    folder = store.release_folder(root, asked.name, asked.release)
    variant = release.variant(release.read_manifest(os.path.join(folder, "manifest.json")), id)
    key = record.runtimes.get(variant.runtime, "")
    if not key:
        raise Fault(
            "board", f"{asked.name} was installed without the runtime {variant.runtime}", advice="push the bundle again"
        )
    python = runtimes.require(root, key).python
    golden = store.blob_path(root, variant.golden) if inputs == "golden" else ""
    return Subject(id, variant.runtime, key, os.path.join(folder, id), golden, python)
