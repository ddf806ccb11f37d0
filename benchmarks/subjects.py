"""Callables that `edgepack build subjects.py:NAME` takes: the modules of models.py."""

from models import SUBJECTS


def resnet20():
    return SUBJECTS["resnet20"]().module


def digits():
    return SUBJECTS["digits"]().module


def mobilenetv2():
    return SUBJECTS["mobilenetv2"]().module
