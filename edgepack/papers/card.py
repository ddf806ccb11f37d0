"""A model card, in Markdown: what the models in a bundle are good for, how that was found out, and where it ends.

After Mitchell et al., "Model Cards for Model Reporting" (2019), as far as a build knows: it says what was measured and what
nobody measured, and leaves the rest to the model's authors.
"""

from __future__ import annotations

import re

from edgepack.manifest import Manifest, VariantRecord
from edgepack.profile import Profile

CARD = "application/vnd.cncf.model.doc.v1.raw"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|])")


def render_card(manifest: Manifest, profile: Profile | None = None) -> str:
    """The card. profile: the device profile it was built for, where it is at hand, for the device's particulars."""
    sections = (
        _head(manifest),
        _device(manifest, profile),
        _use(manifest),
        _variants(manifest),
        _data(manifest),
        _limits(manifest),
        _origin(manifest),
    )
    return "\n".join(line for section in sections for line in (*section, ""))


def _head(manifest: Manifest) -> list[str]:
    default = manifest.variant(manifest.default)
    return [
        f"# {_text(manifest.name)} {_text(manifest.version)} for {_text(manifest.profile.name)}",
        "",
        f"{len(manifest.variants)} compressed forms of one {_text(manifest.source.format)} model; "
        f"`{default.id}` is the default ({_size(default.size)}{_scored(manifest, default)}).",
    ]


def _scored(manifest: Manifest, record: VariantRecord) -> str:
    if record.score is None:
        return ", not scored"
    source = "" if manifest.baseline is None else f", the source {manifest.baseline:.4g}"
    return f"; {_text(manifest.metric)} {record.score:.4g}{source}"


def _device(manifest: Manifest, profile: Profile | None) -> list[str]:
    runtimes = ", ".join(f"{name} {wanted.version} ({wanted.provider})" for name, wanted in manifest.runtimes.items())
    lines = ["## Intended device", ""]
    if profile:
        device = profile.device
        extensions = f", {' '.join(device.isa)}" if device.isa else ""
        lines += [
            f"- {_text(profile.title)}: {device.cores} × {device.cpu} ({device.machine}{extensions}), "
            f"{device.memory_mb} MB of memory"
        ]
    lines += [f"- profile `{manifest.profile.name}`, {manifest.profile.digest}", f"- runtimes: {_text(runtimes)}"]
    locks = [f"{one.runtime} for Python {one.python} on {one.machine}" for one in manifest.locks]
    return [*lines, f"- runtime locks: {'; '.join(locks) or 'none'}"]


def _use(manifest: Manifest) -> list[str]:
    lines = ["## Inputs and outputs", ""]
    lines += [f"- input `{_code(str(spec))}`" for spec in manifest.signature.inputs]
    lines += [f"- output `{_code(str(spec))}`" for spec in manifest.signature.outputs]
    before = manifest.preprocessing
    if before:
        lines.append(
            f"- raw samples become inputs by `(x * {before.scale:.6g} - mean) / std`, mean {list(before.mean)}, "
            f"std {list(before.std)}{', then ' + _text(before.layout) if before.layout else ''}"
        )
    if manifest.labels:
        shown = ", ".join(map(_text, manifest.labels[:20]))
        lines.append(f"- {len(manifest.labels)} labels: {shown}{', …' if len(manifest.labels) > 20 else ''}")
    return lines


def _variants(manifest: Manifest) -> list[str]:
    metric = _text(manifest.metric) or "score"
    lines = [
        "## Scores and sizes",
        "",
        f"| variant | precision | pruned | size | {metric} | drop | SQNR, dB | largest error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in manifest.variants:
        score = "not scored" if one.score is None else f"{one.score:.4f}"
        drop = "–" if one.drop is None else f"{one.drop:+.4f}"
        lines.append(
            f"| `{one.id}` | {one.precision} | {one.sparsity:.0%} | {_size(one.size)} | {score} | {drop} "
            f"| {one.parity.sqnr_db:.1f} | {one.parity.max_abs:.3g} |"
        )
    return [
        *lines,
        "",
        "Each was run in its own runtime on the machine that built it, on real samples where data was given; SQNR and the",
        "largest error compare its outputs with the source's, or with its pruned parent's.",
    ]


def _data(manifest: Manifest) -> list[str]:
    given = manifest.provenance
    rows = (
        ("calibration", given.calibration, given.calibration_samples),
        ("evaluation", given.evaluation, given.evaluation_samples),
        ("training (recovery after pruning)", given.training, None),
    )
    lines = ["## Data", ""]
    for name, content, count in rows:
        samples = "" if count is None else f"{count} samples, "
        lines.append(f"- {name}: {samples}{content}" if content else f"- {name}: none was given")
    return lines


def _limits(manifest: Manifest) -> list[str]:
    gates, given = manifest.gates, manifest.provenance
    lines = ["## Limits", ""]
    if not given.evaluation:
        lines.append("- No evaluation data was given: **nobody knows how accurate these variants are.**")
    else:
        lines.append(
            "- Scores hold for data like the evaluation set; nothing was tested beside it, nor for groups within it."
        )
    if not given.calibration and not given.evaluation:
        lines.append("- Parity was measured on seeded noise, not on real samples.")
    if gates.max_drop is not None:
        lines.append(f"- Variants that lost more than {gates.max_drop:g} of the metric were rejected.")
    lines.append("- Latency and memory on the device are not in this card: `edgepack bench` measures them there.")
    lines.append(
        "- A board's answers may differ from the ones here by the tolerance of the golden samples it is tested with."
    )
    return lines


def _origin(manifest: Manifest) -> list[str]:
    packages = ", ".join(
        f"{_text(name)} {_text(v)}" for name, v in (*manifest.source.frameworks, *manifest.provenance.tools)
    )
    return [
        "## Origin",
        "",
        f"- source: {_text(manifest.source.format)}, {manifest.source.digest}",
        f"- plan: {manifest.provenance.plan}",
        f"- created: {_text(manifest.created)}",
        f"- built with: {packages or 'unknown'}",
    ]


def _size(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} KB"


def _text(text: str) -> str:
    """What others wrote, as text: no markup, no lines of its own."""
    return _SPECIAL.sub(r"\\\1", "".join(c if c.isprintable() else " " for c in text))


def _code(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).replace("`", "'")
