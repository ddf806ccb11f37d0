"""Data: what a net is trained on, what ranges are found with, what methods may look at, what they are judged on.

Calibration and validation samples are taken from the side of the training data, the evaluation set is never shown to a
method. All preprocessing is fixed here, so that every method gets the same floats.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressing.places import assets

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

CALIBRATION, VALIDATION = 128, 256


@dataclass(frozen=True)
class Labelled:
    """x: [n, …] float32; y: [n]"""

    x: Floats
    y: Labels

    def __getitem__(self, index: slice | NDArray) -> Labelled:
        return Labelled(self.x[index], self.y[index])


@dataclass(frozen=True)
class Data:
    """training: empty where the net comes trained; validation: begins with the calibration samples; note: for people"""

    training: Labelled
    calibration: Labelled
    validation: Labelled
    evaluation: Labelled
    note: str


def split(
    known: Labelled, evaluation: Labelled, note: str, calibration: int = CALIBRATION, held: int = VALIDATION
) -> Data:
    """The last `held` known samples are held back from training: they calibrate and validate."""
    back = known[-held:]
    return Data(known[:-held], back[:calibration], back, evaluation, note)


def _jpegs(name: str, wanted: slice) -> tuple[NDArray[np.uint8], Labels]:
    from PIL import Image

    file = np.load(assets() / name)
    blob, offsets, labels = file["blob"], file["offsets"], file["y"].astype(np.int64)
    places = range(*wanted.indices(len(labels)))
    images = [np.asarray(Image.open(io.BytesIO(blob[offsets[i] : offsets[i + 1]].tobytes()))) for i in places]
    return np.stack(images), labels[wanted]


def _cifar(training: int) -> tuple[NDArray[np.uint8], Labels, NDArray[np.uint8], Labels]:
    known = _jpegs("cifar10-jpeg/train20000.npz", slice(-(training + VALIDATION), None))
    return *known, *_jpegs("cifar10-jpeg/test_dev5000.npz", slice(0, 2000))


_CIFAR_NOTE = "2000 JPEG test images (lossy: the released weights score some 10 points less than on lossless ones)"


def _normalized(images: NDArray[np.uint8]) -> Floats:
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(((images.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))


def cifar_normalized(training: int = 0) -> Data:
    """[n, 3, 32, 32], as the released ResNet-20 was trained."""
    x, y, test_x, test_y = _cifar(training)
    return split(Labelled(_normalized(x), y), Labelled(_normalized(test_x), test_y), _CIFAR_NOTE)


def cifar_raw() -> Data:
    """[n, 32, 32, 3], 0..255: MLPerf Tiny's ResNet8 takes bytes as floats."""
    x, y, test_x, test_y = _cifar(0)
    return split(Labelled(x.astype(np.float32), y), Labelled(test_x.astype(np.float32), test_y), _CIFAR_NOTE)


def keywords() -> Data:
    """[n, 49, 10, 1] MFCCs, dequantized as MLPerf Tiny's float model takes them."""
    file = np.load(assets() / "mlperf-tiny-kws" / "eval500_dev.npz")
    x = (file["x"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
    every = Labelled(x, file["y"].astype(np.int64))
    return split(every[:100], every[100:], "400 of MLPerf Tiny's 500 samples, the other 100 calibrate", 100, 100)


def photographs() -> Data:
    """[n, 3, 224, 224], (x − 127) / 128: EfficientNet-Lite's own preprocessing of the centre crop."""
    images, labels = _jpegs("imagenet-sample-256/dev500.npz", slice(None))
    x = (images[:, 16:240, 16:240].astype(np.float32) - 127) / 128
    every = Labelled(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), labels)
    note = "400 photographs that look like training images: read drops and agreement, not the score"
    return split(every[:100], every[100:], note, 100, 100)


def activity() -> Data:
    """[n, 6, 128]: accelerometer and gyroscope, standardized by the training windows' statistics.

    The last quarter of what each user recorded of each activity is what methods are judged on. Users that were never seen
    are another question: there a net's answers shift so far that coarse quantization gained seven points by its error.
    """
    file = np.load(assets() / "har-phone" / "har_windows.npz")
    x, y, user = file["x"].transpose(0, 2, 1), file["y"].astype(np.int64), file["user"]
    test = np.zeros(len(y), bool)
    for group in np.unique(np.stack([user, y]), axis=1).T:
        windows = np.flatnonzero((user == group[0]) & (y == group[1]))
        test[windows[len(windows) * 3 // 4 :]] = True
    mean, std = x[~test].mean((0, 2), keepdims=True), x[~test].std((0, 2), keepdims=True)
    x = np.ascontiguousarray((x - mean) / std, dtype=np.float32)
    order = np.random.default_rng(0).permutation(np.flatnonzero(~test))
    note = f"{test.sum()} windows, the last quarter of each user's recording of each activity"
    return split(Labelled(x[order], y[order]), Labelled(x[test], y[test]), note)


def spoken_digits() -> Data:
    """[n, 1, 64, 32]: log-mel energies, 64 frames of 32 bands over one second."""
    file = np.load(assets() / "fsdd" / "fsdd3000_8k_int16.npz")
    audio, offsets, y, index = file["audio"], file["offsets"], file["y"].astype(np.int64), file["index"]
    x = np.stack([_log_mel(audio[offsets[i] : offsets[i + 1]]) for i in range(len(y))])[:, None]
    test = index < 10
    x = (x - x[~test].mean()) / x[~test].std()
    order = np.random.default_rng(0).permutation(np.flatnonzero(~test))
    note = "600 recordings, index 0 to 9 of each digit and speaker"
    return split(Labelled(x[order], y[order]), Labelled(x[test], y[test]), note)


def _log_mel(audio: NDArray[np.int16], frames: int = 64, bands: int = 32, rate: int = 8000) -> Floats:
    """Hann windows of 256 every 125 samples; triangular bands on O'Shaughnessy's mel scale (2595 log10(1 + f / 700))."""
    signal = np.zeros(frames * 125 + 256, np.float32)
    signal[: min(len(audio), len(signal))] = audio[: len(signal)].astype(np.float32) / 32768
    windows = np.lib.stride_tricks.sliding_window_view(signal, 256)[::125][:frames] * np.hanning(256).astype(np.float32)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(256, 1 / rate)[:, None]
    rising, falling = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    return np.log(power @ np.clip(np.minimum(rising, falling), 0, None) + 1e-6).astype(np.float32)


def scans() -> Data:
    """[n, 1, 8, 8] in 0..1: scikit-learn's digits, for a quick look."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    every = Labelled((found.images[order] / 16).astype(np.float32)[:, None], found.target[order].astype(np.int64))
    return split(every[:-450], every[-450:], "450 scans", 100, 100)
