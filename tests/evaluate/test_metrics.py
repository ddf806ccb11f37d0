"""Metrics against scikit-learn, and what they say when outputs and labels do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn import metrics as sk

from edgepack import evaluate
from edgepack.errors import InputError

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((200, 7))
LABELS = RNG.integers(0, 7, 200)


def score(name: str, outputs, labels, folder=None) -> float:
    given_outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return evaluate.score(given_outputs, labels, evaluate.metric(name, folder))


def softmax(scores: np.ndarray) -> np.ndarray:
    exponents = np.exp(scores)
    return exponents / exponents.sum(-1, keepdims=True)


def test_top1_and_top5():
    assert score("top1", SCORES, LABELS) == pytest.approx(sk.accuracy_score(LABELS, SCORES.argmax(-1)))
    assert score("top5", SCORES, LABELS) == pytest.approx(sk.top_k_accuracy_score(LABELS, SCORES, k=5))


@given(npst.arrays(np.float32, (30, 6), elements=st.integers(0, 3)), st.integers(0, 2**32 - 1))
def test_ties_go_to_the_lower_class(scores, seed):
    labels = np.random.default_rng(seed).integers(0, 6, 30)
    assert score("top1", scores, labels) == pytest.approx((scores.argmax(-1) == labels).mean())


def test_labels_in_every_form_count_alike():
    expected = score("top1", SCORES, LABELS)
    for labels in (LABELS[:, None], np.eye(7)[LABELS], LABELS.astype(np.float32), LABELS.astype(np.uint8)):
        assert score("top1", SCORES, labels) == expected
    assert score("top1", SCORES[:, None, None, :], LABELS) == expected
    assert score("top1", SCORES.argmax(-1), LABELS) == expected


@pytest.mark.parametrize("last", [True, False])
def test_dense_prediction(last):
    scores, labels = RNG.standard_normal((4, 5, 6, 3)), RNG.integers(0, 3, (4, 5, 6))
    outputs = scores if last else scores.transpose(0, 3, 1, 2)
    assert score("top1", outputs, labels) == pytest.approx((scores.argmax(-1) == labels).mean())


@given(npst.arrays(np.float64, 40, elements=st.integers(0, 10)), st.integers(0, 2**32 - 1))
def test_binary_auc(values, seed):
    labels = np.random.default_rng(seed).integers(0, 2, 40)
    labels[:2] = 0, 1
    expected = sk.roc_auc_score(labels, values)
    assert score("auc", values, labels) == pytest.approx(expected)
    assert score("auc", np.stack([-values, values], 1), labels) == pytest.approx(expected)


def test_auc_of_many_classes():
    probabilities = softmax(SCORES)
    expected = sk.roc_auc_score(LABELS, probabilities, multi_class="ovr", average="macro")
    assert score("auc", probabilities, LABELS) == pytest.approx(expected)


def test_f1():
    probability, truth = RNG.random(100), RNG.integers(0, 2, 100)
    assert score("f1", probability[:, None], truth) == pytest.approx(sk.f1_score(truth, probability >= 0.5))
    assert score("f1", SCORES, LABELS) == pytest.approx(sk.f1_score(LABELS, SCORES.argmax(-1), average="macro"))


def test_errors():
    truth = RNG.standard_normal((50, 3))
    outputs = truth + RNG.standard_normal((50, 3))
    assert score("mae", outputs, truth) == pytest.approx(sk.mean_absolute_error(truth, outputs))
    assert score("mse", outputs, truth) == pytest.approx(sk.mean_squared_error(truth, outputs))
    assert score("mae", truth[:, :1], truth[:, 0]) == 0.0


def test_psnr_and_cosine():
    images = RNG.random((5, 8, 8))
    noisy = np.clip(images + 0.1 * RNG.standard_normal(images.shape), 0, 1)
    each = [10 * np.log10(1 / np.square(a - b).mean()) for a, b in zip(images, noisy, strict=True)]
    assert score("psnr", noisy, images) == pytest.approx(np.mean(each))
    assert score("psnr", images, images) == 100.0
    cosines = [
        sk.pairwise.cosine_similarity(a[None], b[None])[0, 0]
        for a, b in zip(images.reshape(5, -1), noisy.reshape(5, -1), strict=True)
    ]
    assert score("cosine", noisy, images) == pytest.approx(np.mean(cosines))


def test_directions():
    better = {name: evaluate.metric(name, None).higher_is_better for name in evaluate.NAMES}
    assert [name for name, higher in better.items() if not higher] == ["mae", "mse"]


CUSTOM = """
import numpy as np
def share(outputs, y):
    return (outputs.argmax(-1) == y).mean()
def two(outputs, y):
    first, second = outputs
    return float(len(first) + len(second) + len(y))
def wrong(outputs, y):
    return outputs
def nan(outputs, y):
    return float("nan")
def broken(outputs, y):
    return outputs["logits"]
"""


def test_a_metric_of_the_user(tmp_path):
    (tmp_path / "mine.py").write_text(CUSTOM)
    assert score("mine.py:share", SCORES, LABELS, tmp_path) == score("top1", SCORES, LABELS)
    assert score("mine.py:two", (SCORES, SCORES), LABELS, tmp_path) == 600.0
    metric = evaluate.metric("mine.py:share", tmp_path)
    assert metric.higher_is_better and metric.name.startswith("mine.py:share sha256:")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine.py:wrong", "returned ndarray(.|\n)*expected: one number"),
        ("mine.py:nan", "is nan on the evaluation samples"),
        ("mine.py:broken", "mine.py line 13: IndexError"),
        ("mine.py:absent", "has no callable 'absent'(.|\n)*broken"),
        ("none.py:share", "there is no file"),
        ("tp1", "'tp1' is not known(.|\n)*perhaps you meant 'top1'"),
    ],
)
def test_wrong_metrics(name, said, tmp_path):
    (tmp_path / "mine.py").write_text(CUSTOM)
    with pytest.raises(InputError, match=said):
        score(name, SCORES, LABELS, tmp_path)


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "said"),
    [
        ("top1", SCORES, LABELS[:-1], "200 outputs against 199 labels"),
        ("top1", SCORES, LABELS + 1, "labels from 1 to 7 against 7 classes"),
        ("top1", SCORES, LABELS + 0.5, "class indices from 0 to 6"),
        ("top5", SCORES[:, :3], LABELS % 3, "top5 of 3 classes"),
        ("top1", SCORES, SCORES[:, :3], "against labels of shape"),
        ("mae", SCORES, SCORES[:, :3], "against labels of shape"),
        ("auc", SCORES[:, 0], LABELS * 0, "no samples of class 1"),
        ("f1", SCORES[:, 0], LABELS % 2, "are not probabilities"),
        ("top1", SCORES * np.nan, LABELS, "holds NaN"),
    ],
)
def test_what_does_not_fit(name, outputs, labels, said):
    with pytest.raises(InputError, match=said):
        score(name, outputs, labels)
