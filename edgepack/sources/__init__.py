"""Trained models as their users have them: four frameworks' files and callables arrive as one `Loaded`.

loaded = load(project, folder, progress)          loaded.model.signature, loaded.run(arrays)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_never

from edgepack.errors import InputError
from edgepack.model import Format, TensorSpec
from edgepack.ports import Loaded, Progress
from edgepack.project import Project
from edgepack.runtimes.callables import load_callable
from edgepack.sources import file_source, keras_source, torch_source
from edgepack.sources.data import Hint, load_samples, load_training, peek
from edgepack.sources.locate import Kind, locate
from edgepack.sources.signatures import Specs

__all__ = ["load", "load_samples", "load_training", "source_format"]


def load(project: Project, folder: Path, progress: Progress) -> Loaded:
    """The model that a project names, with a signature whose sizes are all fixed and whose batch is 1.

    folder: what the project's paths are relative to. Raises InputError naming the file, input or dimension that is wrong,
    UsageError where the framework is not installed.
    """
    section = project.model
    kind, path = locate(section.source, folder)
    if section.weights and kind is not Kind.CALLABLE:
        raise InputError(
            f"[model] weights = {section.weights!r} with the source {section.source}, which has its own",
            expected="weights only beside a file.py:callable",
            advice="leave one of them out",
        )
    with progress.step(f"load {section.source}"):
        return _load(kind, path, project, folder)


def source_format(project: Project, folder: Path) -> Format | None:
    """The format of a project's source where its name tells it, before any framework is imported; None for a callable."""
    kind, _ = locate(project.model.source, folder)
    match kind:
        case Kind.ONNX:
            return Format.ONNX
        case Kind.TFLITE:
            return Format.TFLITE
        case Kind.KERAS | Kind.SAVED_MODEL:
            return Format.KERAS
        case Kind.EXPORTED | Kind.SCRIPT:
            return Format.TORCH
        case Kind.CALLABLE:
            return None
        case _:
            assert_never(kind)


def _load(kind: Kind, path: Path, project: Project, folder: Path) -> Loaded:
    source, declared = project.model.source, project.model.inputs
    match kind:
        case Kind.ONNX:
            return file_source.from_onnx(source, path, declared)
        case Kind.TFLITE:
            return file_source.from_tflite(source, path, declared)
        case Kind.KERAS:
            return keras_source.from_file(source, path, declared)
        case Kind.SAVED_MODEL:
            return keras_source.from_saved_model(source, path, declared)
        case Kind.EXPORTED:
            return torch_source.from_exported(source, path, declared)
        case Kind.SCRIPT:
            return torch_source.from_script(source, path, declared or _inputs_from_data(project, folder, []))
        case Kind.CALLABLE:
            return _load_callable(project, folder)
        case _:
            assert_never(kind)


def _load_callable(project: Project, folder: Path) -> Loaded:
    source, declared = project.model.source, project.model.inputs
    user = load_callable(source, folder)
    made = user.call()
    match _framework_of(made):
        case Format.TORCH:
            if project.model.weights:
                torch_source.load_weights(made, folder / project.model.weights, project.model.weights)
            names = torch_source.forward_names(made)
            inputs = declared or _inputs_from_data(project, folder, names)
            return torch_source.from_module(source, made, user.code_digest(), inputs)
        case Format.KERAS:
            if project.model.weights:
                keras_source.load_weights(made, folder / project.model.weights, project.model.weights)
            return keras_source.from_model(source, made, user.code_digest(), declared)
        case _:
            raise InputError(
                f"{source} returned {type(made).__name__}",
                expected="an nn.Module or a keras.Model",
                advice="return the model itself, built and with its weights",
            )


def _framework_of(made: Any) -> Format | None:
    """By the modules of its classes, so that no framework is imported to find out."""
    roots = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(made).__mro__}
    if ("torch", "Module") in roots:
        return Format.TORCH
    if ("keras", "Model") in roots:
        return Format.KERAS
    return None


def _inputs_from_data(project: Project, folder: Path, names: list[str]) -> Specs:
    """Inputs of a torch model from its samples, the first reference that is given. Raises InputError where none is."""
    data = project.data
    reference = data.calibration or data.evaluation or data.training
    if not reference:
        raise InputError(
            f"{project.model.source}: the shapes of its inputs are not known",
            expected="declared inputs, or samples to take them from",
            advice='say them with --input x=1,3,224,224 or [model] inputs = [{ name = "x", shape = [1, 3, 224, 224] }], '
            "or give --calibration",
        )
    return _named(peek(reference, folder, data.preprocessing), names)


def _named(hints: tuple[Hint, ...], names: list[str]) -> Specs:
    by_name = {hint.name: hint for hint in hints}
    if set(names) <= set(by_name) and len(hints) > 1:
        hints = tuple(by_name[name] for name in names)
    elif len(names) == len(hints):
        hints = tuple(Hint(name, hint.shape, hint.dtype) for name, hint in zip(names, hints, strict=True))
    return tuple(TensorSpec(hint.name, (1, *hint.shape), hint.dtype) for hint in hints)
