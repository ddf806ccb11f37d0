"""Callables that `edgepack build subjects.py:NAME` takes: the modules of models.py and of compressing/models.py."""

from models import SUBJECTS


def resnet20():
    return SUBJECTS["resnet20"]().module


def digits():
    return SUBJECTS["digits"]().module


def mobilenetv2():
    return SUBJECTS["mobilenetv2"]().module


def _compressed(name: str):
    from compressing.models import module

    return module(name)


def efficientnet_lite0():
    return _compressed("efficientnet_lite0")


def hardswish_se():
    return _compressed("hardswish_se")


def activity_cnn():
    return _compressed("activity_cnn")


def digit_dscnn():
    return _compressed("digit_dscnn")


def activity_lstm():
    return _compressed("activity_lstm")


def digit_transformer():
    return _compressed("digit_transformer")


def scans_cnn():
    return _compressed("scans_cnn")
