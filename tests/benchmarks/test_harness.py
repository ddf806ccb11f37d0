"""What `benchmarks/harness` holds against each other: the loop over a C API runs, and so do the models that it is given."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepack.device import run, samples

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]
LIBRARIES = {"litert": "ai_edge_litert/libLiteRt.so", "onnxruntime": "onnxruntime/capi/libonnxruntime.so.*"}


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("loops") / "loops"
    source = BENCHMARKS / "harnessing/loops.c"
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-o", str(made), str(source), "-ldl"], check=True)
    return made


@pytest.mark.parametrize("runtime", LIBRARIES)
def test_the_loop_and_the_harness_run_the_same_models(runtime: str, loops: Path, tmp_path: Path) -> None:
    from harnessing import nets

    site = Path(pytest.importorskip("onnxruntime").__file__).parents[1]
    (library,) = site.glob(LIBRARIES[runtime])
    for model, sizes in ((nets.nothing(runtime, tmp_path), ["1"]), (nets.chain(runtime, tmp_path), ["1", "64"])):
        done = subprocess.run(
            [str(loops), runtime, str(library), str(model), "7", "2", *sizes], capture_output=True, check=True
        )
        taken = json.loads(done.stdout.splitlines()[-1])["samples_ns"]
        assert len(taken) == 7 and min(taken) > 0
        session = run.open_model(model, runtime)
        (inputs,) = samples.seeded(session)
        (answer,) = session.run(inputs)
        assert np.linalg.norm(answer) == pytest.approx(np.linalg.norm(inputs[0]), rel=1e-3), (
            "both keep a vector's length"
        )


def test_a_shot_answers_as_a_run_does(tmp_path: Path) -> None:
    from harnessing import nets

    for runtime in LIBRARIES:
        session = run.open_model(nets.chain(runtime, tmp_path), runtime)
        (inputs,) = samples.seeded(session)
        (wanted,) = session.run_raw(inputs)
        shot = session.shot(inputs)
        shot.set()
        shot.run()
        np.testing.assert_array_equal(session.results()[0], wanted)
