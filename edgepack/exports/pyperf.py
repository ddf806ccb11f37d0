"""pyperf's JSON, format 1.0 (pyperf.readthedocs.io): `pyperf compare_to`, `hist`, `stats` and `check` read it."""

from __future__ import annotations

import json
from typing import Any

from edgepack.report import ProcessRun, Report


def pyperf(report: Report) -> str:
    """One benchmark named by the variant, so that two versions of a bundle compare; one run a process, values in seconds."""
    runs = [_run(number, process) for number, process in enumerate(report.processes, 1)]
    device = report.device
    metadata = {
        "name": report.variant,
        "unit": "second",
        "description": f"{report.bundle.name} {report.bundle.version} on {report.run_context.target}",
        "hostname": report.run_context.target,
        "cpu_model_name": str(device.get("cpu_model", "")),
        "cpu_count": int(device.get("cores", 0)) or 1,
        "platform": f"{device.get('os', '')} {device.get('kernel', '')} {device.get('machine', '')}".strip(),
        "date": report.run_context.started,
        "runtime": f"{report.runtime.name} {report.runtime.version}, {report.runtime.threads} threads",
        "verdict": report.validity.verdict,
        "tool": f"edgepack {report.run_context.edgepack}",
    }
    metadata = {key: value for key, value in metadata.items() if value != ""}
    document = {"benchmarks": [{"runs": runs}], "metadata": metadata, "version": "1.0"}
    return json.dumps(document, indent=1) + "\n"


def _run(number: int, process: ProcessRun) -> dict[str, Any]:
    warmups = [[1, value / 1e9] for value in (process.first_ns, *process.warm_ns)]
    return {
        "metadata": {"mem_max_rss": process.vmhwm_kb * 1024, "process": number},
        "warmups": warmups,
        "values": [value / 1e9 for value in process.samples_ns],
    }
