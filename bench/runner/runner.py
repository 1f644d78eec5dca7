"""Turn one run specification into a finished run folder; fail as data."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from bench import __version__
from bench.engine.resume import Checkpoints, Preempted
from bench.errors import GivenUp, NotApplicable, reason_for
from bench.method import ShallowMethod
from bench.patterns import pattern_words
from bench.protocol import Condition
from bench.runner.deep import Deep, load_deep, train_deep
from bench.runner.frames import availability_frame, cases_frame, predictions_frame
from bench.runner.material import NO_HOOKS, Context, Hooks, Material, Test, set_threads
from bench.runner.shallow import Shallow, load_shallow, train_shallow
from bench.spec import RunSpec
from bench.store import RunFolder


def execute(
    folder: RunFolder,
    spec: RunSpec,
    conditions: Sequence[Condition],
    context: Context,
    hooks: Hooks = NO_HOOKS,
) -> None:
    """Train if needed, predict the conditions that are not there yet, and mark the folder.

    A fault of the run (user's or ours) is written into the folder and raised again, and so is what
    a hook raises: a run that is stopped has failed, for the reason that the hook gives. One that
    was asked to stop (`bench.engine.resume`) is pending, and `Preempted` is raised.
    """
    if folder.state == "done":
        _add_conditions(folder, spec, conditions, context)
        return
    folder.begin(spec, environment(context))
    checkpoints = Checkpoints(folder, context.saving)
    try:
        facts = _run(folder, spec, conditions, context, hooks, checkpoints)
    except NotApplicable as error:
        folder.skip(str(error))
        raise
    except Preempted:
        folder.release()
        raise
    except (Exception, SystemExit) as error:  # a plugin that leaves is a run that failed
        if isinstance(error, GivenUp):
            checkpoints.discard()
        folder.fail(reason_for(error), traceback.format_exc())
        raise
    checkpoints.discard()
    folder.finish(**facts, **checkpoints.facts())


def _run(
    folder: RunFolder,
    spec: RunSpec,
    conditions: Sequence[Condition],
    context: Context,
    hooks: Hooks,
    checkpoints: Checkpoints,
) -> dict[str, Any]:
    started = time.perf_counter()
    set_threads(context.threads)
    material = Material.of(spec, context)
    if issubclass(material.method_class, ShallowMethod):
        fitted: Deep | Shallow = train_shallow(folder, material)
        hooks.report(1.0)
    else:
        fitted = train_deep(folder, material, context, hooks, checkpoints)
    trained = time.perf_counter()
    tests = [Test.of(condition, material) for condition in conditions]
    folder.write_predictions(predictions_frame(material, tests, fitted.predict(material, tests)))
    folder.write_availability(availability_frame(material, tests))
    folder.write_frame("cases.parquet", cases_frame(material))
    return {
        "conditions": [condition.name for condition in conditions],
        "long_names": {condition.name: condition.long_name for condition in conditions},
        "classes": list(material.dataset.classes),
        "dropout_law": material.law,
        "gaps": pattern_words(material.pattern),
        "condition_gaps": {test.condition.name: pattern_words(test.pattern) for test in tests},
        "fit_seconds": round(trained - started, 3),
        "predict_seconds": round(time.perf_counter() - trained, 3),
        **fitted.facts,
    }


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "timm", "numpy", "scikit-learn", "pandas", "pyarrow")
    return {"bench": __version__} | {name: version(name) for name in names}


def environment(context: Context) -> dict[str, Any]:
    """Describe versions and hardware: recorded with a run, not part of its identity."""
    on_gpu = context.device.startswith("cuda")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": context.threads,
        "versions": _versions(),
    }


def load_fitted(folder: RunFolder, material: Material, context: Context) -> Deep | Shallow:
    """Load what a finished run trained."""
    if issubclass(material.method_class, ShallowMethod):
        return load_shallow(folder, material)
    return load_deep(folder, material, context)


def _add_conditions(
    folder: RunFolder, spec: RunSpec, conditions: Sequence[Condition], context: Context
) -> None:
    """Predict, from the checkpoint, the conditions that a finished run lacks."""
    there = set(folder.status()["conditions"])
    new = [condition for condition in conditions if condition.name not in there]
    if not new:
        return
    set_threads(context.threads)
    material = Material.of(spec, context)
    fitted = load_fitted(folder, material, context)
    tests = [Test.of(condition, material) for condition in new]
    folder.add_availability(availability_frame(material, tests))
    folder.add_predictions(
        predictions_frame(material, tests, fitted.predict(material, tests)),
        {each.name: each.long_name for each in new},
        condition_gaps={test.condition.name: pattern_words(test.pattern) for test in tests},
    )
