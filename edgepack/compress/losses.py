"""What a module is trained for: read off its teacher's answers and the labels, once, from the first batch."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, assert_never

from edgepack.compress.modules import labels_tensor
from edgepack.errors import InputError
from edgepack.samples import Array

_TEMPERATURE = 2.0
_TINY = 1e-7


class Goal(StrEnum):
    """LOGITS and PROBABILITIES: classes along the outputs' second axis; BINARY and CHANCE: one such number a sample."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    BINARY = "binary logit"
    CHANCE = "binary probability"
    VALUES = "values"

    @staticmethod
    def of(soft: tuple[Any, ...], labels: Array | None) -> Goal:
        """The goal for a teacher's answers and the labels of a batch (None: imitate the answers as they are)."""
        if labels is None or labels.dtype.kind == "f":
            return Goal.VALUES
        first = soft[0]
        if first.ndim >= 2 and first.shape[1] > 1:
            sums = first.sum(dim=1)
            is_distribution = bool(((first >= 0).all()) & ((sums - 1).abs() < 1e-3).all())
            return Goal.PROBABILITIES if is_distribution else Goal.LOGITS
        if set(labels.reshape(-1).tolist()) <= {0, 1}:
            return Goal.CHANCE if bool(((first >= 0) & (first <= 1)).all()) else Goal.BINARY
        return Goal.VALUES


def loss_of(goal: Goal, answers: tuple[Any, ...], soft: tuple[Any, ...], labels: Array | None, distil: float) -> Any:
    """One number to minimize: `distil` of the way to the teacher's answers, the rest to the labels (the first output's)."""
    import torch

    taught = _to_teacher(goal, answers[0], soft[0])
    for given, wanted in zip(answers[1:], soft[1:], strict=True):
        taught = taught + torch.nn.functional.mse_loss(given, wanted)
    if labels is None:
        return taught
    return distil * taught + (1 - distil) * _to_labels(goal, answers[0], labels_tensor(labels))


def _to_teacher(goal: Goal, answer: Any, soft: Any) -> Any:
    from torch.nn import functional

    match goal:
        case Goal.LOGITS | Goal.PROBABILITIES:
            student, teacher = _log_probabilities(goal, answer), _log_probabilities(goal, soft)
            cold = functional.log_softmax(student / _TEMPERATURE, 1), functional.log_softmax(teacher / _TEMPERATURE, 1)
            spread = functional.kl_div(*cold, reduction="none", log_target=True).sum(1).mean()
            return spread * _TEMPERATURE**2
        case Goal.BINARY:
            return functional.binary_cross_entropy_with_logits(answer, soft.sigmoid())
        case Goal.CHANCE:
            return functional.binary_cross_entropy(answer.clamp(_TINY, 1 - _TINY), soft)
        case Goal.VALUES:
            return functional.mse_loss(answer, soft)
        case _:
            assert_never(goal)


def _to_labels(goal: Goal, answer: Any, labels: Any) -> Any:
    from torch.nn import functional

    match goal:
        case Goal.LOGITS | Goal.PROBABILITIES:
            _check_classes(answer, labels)
            return functional.nll_loss(_log_probabilities(goal, answer), labels)
        case Goal.BINARY:
            return functional.binary_cross_entropy_with_logits(answer, _like(labels, answer))
        case Goal.CHANCE:
            return functional.binary_cross_entropy(answer.clamp(_TINY, 1 - _TINY), _like(labels, answer))
        case Goal.VALUES:
            return functional.mse_loss(answer, _like(labels, answer))
        case _:
            assert_never(goal)


def _log_probabilities(goal: Goal, answer: Any) -> Any:
    return answer.clamp_min(_TINY).log() if goal is Goal.PROBABILITIES else answer.log_softmax(1)


def _check_classes(answer: Any, labels: Any) -> None:
    if labels.shape != answer.shape[:1] + answer.shape[2:]:
        raise InputError(
            f"training labels have the shape {list(labels.shape)}",
            expected=f"{list(answer.shape[:1] + answer.shape[2:])}, one class a sample",
        )
    if int(labels.min()) < 0 or int(labels.max()) >= answer.shape[1]:
        raise InputError(
            f"training labels run from {int(labels.min())} to {int(labels.max())}",
            expected=f"0 to {answer.shape[1] - 1}",
        )


def _like(labels: Any, answer: Any) -> Any:
    """Labels in the answer's shape: `[n]` fits `[n, 1]`."""
    if labels.numel() != answer.numel():
        raise InputError(
            f"training labels have the shape {list(labels.shape)}", expected=f"{list(answer.shape)}, as the output"
        )
    return labels.reshape(answer.shape).to(answer.dtype)
