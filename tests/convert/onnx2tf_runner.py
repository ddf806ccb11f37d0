"""Runs onnx2tf, which is installed beside the main environment: runner.py PACKAGES SOURCE.onnx OUT_FOLDER.

It wants to download images to calibrate with, unless a file of that name lies in the working folder: noise does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

CALIBRATION = "calibration_image_sample_data_20x128x128x3_float32.npy"

if __name__ == "__main__":
    packages, source, out = sys.argv[1:]
    sys.path.append(packages)
    np.save(Path.cwd() / CALIBRATION, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
    import onnx2tf

    onnx2tf.convert(
        input_onnx_file_path=source,
        output_folder_path=out,
        copy_onnx_input_output_names_to_tflite=True,
        non_verbose=True,
    )
