"""Whether two reports may be compared: the same board, in the same state, asked in the same way. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from edgepack.report import Report

SAME_BOARD = ("board_model", "cpu_model", "machine", "cores")
_RUNTIMES = "other runtimes"
_WORDS = {"board_model": "board models", "cpu_model": "CPUs", "machine": "machines", "cores": "numbers of cores"}


def differences(before: Report, after: Report, *, runtimes: bool = True) -> tuple[str, ...]:
    """Each way in which the two were measured differently, as a sentence; empty where they are comparable.

    What is compared on purpose is no difference: the version of the bundle, its variant, the version of the runtime.
    runtimes: whether another runtime is one; a gate lets each release, and each variant, bring its own
    """
    found = [(what, a, b) for what, a, b in _pairs(before, after) if a != b]
    return tuple(f"{what}: {a} and {b}" for what, a, b in found if runtimes or what != _RUNTIMES)


def _pairs(before: Report, after: Report) -> Iterator[tuple[str, str, str]]:
    yield "other boards", before.run_context.target, after.run_context.target
    for key in SAME_BOARD:
        yield f"other {_WORDS[key]}", str(before.device.get(key, "")), str(after.device.get(key, ""))
    yield _RUNTIMES, before.runtime.name, after.runtime.name
    yield "other numbers of threads", str(before.runtime.threads), str(after.runtime.threads)
    yield "other inputs", before.protocol.inputs, after.protocol.inputs
    yield "other batch sizes", str(before.protocol.batch), str(after.protocol.batch)
    yield "pinned to other cores", str(list(before.protocol.pin)), str(list(after.protocol.pin))
    one, other = before.run_context, after.run_context
    for when, first, second in (("before", one.before, other.before), ("after", one.after, other.after)):
        yield f"other CPU governors {when} the run", str(first.governor), str(second.governor)
        yield f"other limits of the clock {when} the run", str(list(first.mhz_limits)), str(list(second.mhz_limits))
    yield "other sources of power", str(one.before.power), str(other.before.power)
