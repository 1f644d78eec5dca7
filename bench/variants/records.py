"""What an ablation or a sensitivity study leaves in its study's folder, beside its runs.

A record says which runs belong to which variant, so that a report can make the tables and figures
again from the files alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.layout import Layout
from bench.spec import digest
from bench.store import StudyFolder
from bench.variants.model import Done, Parameter, Stage, Variant

Kind = Literal["ablation", "alone", "sequential", "grid"]
PREFIX = "variants-"  # of the files


@dataclass(frozen=True, eq=False)
class Record:
    """The variants of one method that one call asked for."""

    kind: Kind
    row: str  # the method as tables print it
    stages: tuple[Stage, ...]
    asked: tuple[str, ...] = ()  # the identities of the requests that the variants are

    @property
    def dones(self) -> list[Done]:
        """What was carried out together, each once."""
        return list({id(stage.done): stage.done for stage in self.stages}.values())

    @property
    def cells(self) -> set[tuple[str, str]]:
        """The variants by label, with each of their runs."""
        return {
            (variant.label, name)
            for done in self.dones
            for variant, names in done.names
            for name in names
        }

    def write(self, folder: StudyFolder) -> None:
        """Keep it in a study, in place of an earlier one of the same requests."""
        method = self.row.replace(":", "+")
        name = f"{PREFIX}{self.kind}-{method}-{digest([self.kind, *self.asked])[:12]}.json"
        folder.write_json(name, self._to_json())

    def _to_json(self) -> dict[str, Any]:
        dones = self.dones
        return {
            "kind": self.kind,
            "row": self.row,
            "asked": list(self.asked),
            "dones": [_done_to_json(each) for each in dones],
            "stages": [
                {
                    "done": dones.index(stage.done),
                    "parameter": asdict(stage.parameter) if stage.parameter else None,
                }
                for stage in self.stages
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: StudyFolder) -> Record:
        """Rebuild a record that a study holds."""
        dones = [_done_from_json(each, folder) for each in value["dones"]]
        stages = tuple(
            Stage(dones[each["done"]], _parameter_from_json(each["parameter"]))
            for each in value["stages"]
        )
        return cls(value["kind"], value["row"], stages, tuple(value["asked"]))


def _done_to_json(done: Done) -> dict[str, Any]:
    return {
        "variants": [
            {
                "label": variant.label,
                "settings": dict(variant.settings),
                "values": [list(pair) for pair in variant.values],
                "runs": list(names),
            }
            for variant, names in done.names
        ],
        "layouts": [layout.to_json() for layout in done.layouts],
        "budget": done.budget,
    }


def _done_from_json(value: Mapping[str, Any], folder: StudyFolder) -> Done:
    names = tuple(
        (
            Variant(
                each["label"], each["settings"], tuple((name, v) for name, v in each["values"])
            ),
            tuple(each["runs"]),
        )
        for each in value["variants"]
    )
    layouts = tuple(Layout.from_json(each) for each in value["layouts"])
    return Done(folder, names, layouts, value["budget"])


def _parameter_from_json(value: Mapping[str, Any] | None) -> Parameter | None:
    if value is None:
        return None
    return Parameter(value["name"], value["section"], value["key"], tuple(value["values"]))


def records_of(folder: StudyFolder) -> list[Record]:
    """Read the records of a study in the order of their files.

    Raises:
        BadData: a record is damaged; names it.
    """
    names = sorted(path.name for path in folder.path.glob(f"{PREFIX}*.json"))
    return [Record.from_json(folder.read_json(name), folder) for name in names]


def without_contained(records: Sequence[Record]) -> list[Record]:
    """Leave out what another record has whole: an ablation that was tried on one fold first."""
    return [
        record
        for i, record in enumerate(records)
        if not any(
            (other.kind, other.row) == (record.kind, record.row)
            and (record.cells < other.cells or (record.cells == other.cells and i < j))
            for j, other in enumerate(records)
        )
    ]
