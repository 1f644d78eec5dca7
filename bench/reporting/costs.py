"""What models cost, kept in a study beside its runs, so that figures can set scores against it.

`bench complexity --study NAME` measures and keeps; a run finds its own numbers by what a cost
depends on: method, settings, dataset, encoders and width, never fold, seed or training. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.errors import BadRequest
from bench.request import Request
from bench.scores.results import RunResult
from bench.spec import RunSpec, canonical_json, digest
from bench.store import StudyFolder

FILE = "complexity.json"
DEPENDS_ON = ("method", "method_config", "dataset", "dataset_config", "encoder", "precision")
NOT_ASKED = ("folds", "seeds", "protocols", "gaps", "study", "out", "keep_representations")


def cost_key(spec: Mapping[str, Any]) -> str:
    """Hash what the cost of a run's model depends on, from its specification as JSON."""
    kept = {name: spec[name] for name in DEPENDS_ON}
    return digest({**kept, "d_model": spec["recipe"]["d_model"]})[:16]


def keep_costs(study: StudyFolder, costs: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep costs by key; what was measured before of the same key is replaced."""
    known = study.read_if_whole(FILE)
    study.write_json(FILE, {**known, **costs})


def costs_of(runs: Sequence[RunResult]) -> list[Mapping[str, Any]]:
    """Return what was measured of these runs' models; runs without are left out."""
    found = []
    files: dict[StudyFolder, dict[str, Any]] = {}
    for run in runs:
        if run.folder is not None:
            path = run.folder.path.parents[1]
            study = StudyFolder(path.parent, path.name)
            if study not in files:
                files[study] = study.read_if_whole(FILE)
            key = cost_key(RunSpec(**run.spec).model_dump(mode="json"))  # defaults filled in
            found += [files[study][key]] if key in files[study] else []
    return found


def requests_of(study: StudyFolder) -> list[Request]:
    """Return what was asked of a study, once for all that differ in nothing that costs.

    Raises:
        BadRequest: nothing is noted.
    """
    noted = study.read_json("study.json")["requests"] if study.has("study.json") else {}
    found: dict[str, Request] = {}
    for entry in noted.values():
        for request in Request(**entry["asked"]).parts():
            asked = request.model_dump(mode="json", exclude=set(NOT_ASKED))
            found.setdefault(canonical_json(asked), request)
    if not found:
        raise BadRequest(f"study {study.path} notes no request; name methods with --method")
    return list(found.values())
