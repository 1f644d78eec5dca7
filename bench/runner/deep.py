"""Train, save, load and ask a method that the engine trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data import Availability
from bench.encoders import Encoders, Inputs, Preprocessor, fit_preprocessor
from bench.encoders.augmentation import Augmenter, stacked
from bench.engine.engine import fit
from bench.engine.inference import Ask, Member, Model, Part, Scored, predict, validation_facts
from bench.engine.resume import Checkpoints
from bench.engine.stage import Training
from bench.engine.tensor_files import load_tensors, save_tensors
from bench.method import Method, Stage
from bench.runner.material import Context, Hooks, Material, Test
from bench.seeds import seed_for
from bench.store import RunFolder


@dataclass(frozen=True, eq=False)
class Deep:
    """A trained model, or several that share the subsets."""

    members: list[Member]
    preprocessor: Preprocessor
    device: torch.device
    facts: dict[str, Any]

    def predict(self, material: Material, tests: Sequence[Test]) -> list[Scored]:
        """Predict the conditions' cases that have something, encoding each test case once."""
        asks = [test.ask(material.split.test) for test in tests]
        return predict(self.members, self.inputs(material), asks)

    def inputs(self, material: Material) -> Inputs:
        """Return the test part with what its cases truly have, ready for the encoders."""
        natural = material.dataset.natural()
        inputs = self.preprocessor.inputs(material.dataset, material.split.test, natural)
        return self.members[0].model.encoders.prepare(inputs).to(self.device)


def train_deep(
    folder: RunFolder,
    material: Material,
    context: Context,
    hooks: Hooks,
    checkpoints: Checkpoints,
) -> Deep:
    """Train, write preprocessing and weights into the folder, and score the validation part.

    Raises:
        Preempted: the process was asked to stop; the checkpoint holds what was trained.
    """
    device = torch.device(context.device)
    spec = material.spec
    preprocessor = _preprocessor(material)
    build = _builder(material, preprocessor, device)
    encoders = build(None).encoders if spec.encoder.frozen else None
    parts = _Parts(material, preprocessor, device, encoders)

    n_done = 0

    def log(row: dict[str, Any]) -> None:
        nonlocal n_done
        n_done += 1
        folder.append_history(row)
        folder.heartbeat(epochs=n_done)
        hooks.report(min(1.0, n_done / spec.recipe.epochs))
        hooks.watch(row)

    valid = parts.valid()
    training = _training(material, parts.augmenter)
    members = fit(build, training, parts.train(), valid, log, checkpoints)
    _save(folder, members, preprocessor)
    asks = [Ask.of_subset(valid.inputs.observed, subset) for subset in material.selection]
    valid_label = material.label[material.split.valid]
    facts = validation_facts(valid_label, predict(members, valid.inputs, asks))
    counts = _count_parameters(members) | _budget(members[0].model.method.stages())
    return Deep(members, preprocessor, device, counts | facts)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Makes the parts of a split that training looks at."""

    material: Material
    preprocessor: Preprocessor
    device: torch.device
    frozen: Encoders | None  # encode once what they can

    @property
    def augmenter(self) -> Augmenter | None:
        """What alters training cases."""
        config = self.material.spec.encoder
        if config.augment is None:
            return None
        return Augmenter(config.augment, self.preprocessor, frozen=config.frozen)

    def train(self) -> Part:
        """Return the training part, with the altered copies that a frozen encoder sees."""
        rows, augmenter = self.material.split.train, self.augmenter
        part = self._part(rows, self.material.availability)
        part = replace(part, cases=tuple(self.material.dataset.cases[rows].tolist()))
        if self.frozen is not None and augmenter is not None and augmenter.settings.variants:
            inputs = self._inputs(rows, self.material.availability)
            copies = augmenter.variants(inputs, part.cases)
            part = replace(part, altered=stacked([self.frozen.prepare(each) for each in copies]))
        return part.to(self.device)

    def valid(self) -> Part:
        """Return the validation part, which nothing alters."""
        part = self._part(self.material.split.valid, self.material.valid_availability)
        return part.to(self.device)

    def _part(self, rows: np.ndarray, availability: Availability) -> Part:
        inputs = self._inputs(rows, availability)
        if self.frozen is not None:
            inputs = self.frozen.prepare(inputs)
        return Part(inputs, torch.as_tensor(self.material.label[rows]))

    def _inputs(self, rows: np.ndarray, availability: Availability) -> Inputs:
        return self.preprocessor.inputs(self.material.dataset, rows, availability)


def _training(material: Material, augmenter: Augmenter | None) -> Training:
    spec = material.spec
    keys = (spec.dataset, spec.fold, spec.n_folds, spec.seed)
    n_classes = len(material.dataset.classes)
    return Training(spec.recipe, material.selection, keys, n_classes, augmenter)


def untrained(material: Material, device: torch.device) -> tuple[Model, Preprocessor]:
    """Build the model of a run without pretrained weights, and what prepares its inputs."""
    preprocessor = _preprocessor(material)
    return _builder(material, preprocessor, device, load_weights=False)(None), preprocessor


def _preprocessor(material: Material) -> Preprocessor:
    return fit_preprocessor(
        material.dataset,
        material.split.train,
        material.availability,
        keep_values=bool(material.spec.encoder.text),
    )


def _builder(
    material: Material,
    preprocessor: Preprocessor,
    device: torch.device,
    *,
    load_weights: bool = True,
) -> Callable[[Stage | None], Model]:
    spec, dataset = material.spec, material.dataset
    keys = (spec.dataset, spec.fold, spec.n_folds, spec.seed)
    method_class = material.method_class
    assert issubclass(method_class, Method)

    def build(stage: Stage | None) -> Model:
        name = "" if stage is None else stage.name
        torch.manual_seed(seed_for("encoders", *keys, name))
        separate = method_class.separate_encoders(material.config)
        encoders = Encoders(
            dataset.modalities,
            preprocessor,
            spec.encoder,
            separate=separate,
            load_weights=load_weights,
            device=device,
        )
        torch.manual_seed(seed_for("initialisation", *keys, name))
        task = encoders.task(dataset.classes, spec.recipe.d_model)
        method = method_class(task, material.config)
        autocast = spec.precision == "bf16"
        return Model(encoders, method, autocast=autocast).to(device)

    return build


def _count_parameters(members: Sequence[Member]) -> dict[str, int]:
    every = [p for member in members for p in member.model.parameters()]
    return {
        "n_parameters": sum(p.numel() for p in every),
        "n_trainable": sum(p.numel() for p in every if p.requires_grad),
        "n_models": len(members),
    }


def _budget(stages: Sequence[Stage]) -> dict[str, float]:
    """Say how much of the study's epochs the stages of one model take together."""
    return {
        "share_of_epochs": round(sum(each.share_of_epochs for each in stages if not each.fresh), 4)
    }


def _save(folder: RunFolder, members: Sequence[Member], preprocessor: Preprocessor) -> None:
    folder.write_json("preprocessor.json", preprocessor.state())
    states = [
        {"subset": list(member.subset) if member.subset else None, "state": _state_of(member.model)}
        for member in members
    ]
    save_tensors(folder.path_of("checkpoint.pt"), states)


def _state_of(model: Model) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in model.state_dict().items()}


def load_deep(folder: RunFolder, material: Material, context: Context) -> Deep:
    """Load what a finished run trained."""
    device = torch.device(context.device)
    preprocessor = Preprocessor.from_state(folder.read_json("preprocessor.json"))
    build = _builder(material, preprocessor, device, load_weights=False)  # the checkpoint has them
    members = []
    for saved in load_tensors(folder.path_of("checkpoint.pt"), device):
        model = build(None)
        model.load_state_dict(saved["state"])
        members.append(Member(model, tuple(saved["subset"]) if saved["subset"] else None))
    return Deep(members, preprocessor, device, {})
