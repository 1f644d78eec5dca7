"""Your own data: a table, pictures and volumes that one YAML file describes.

Modalities, classes, groups, split and gaps are what the file says; `docs/manifest.md` shows it by
example, and `bench new dataset FOLDER` writes a first version. `--dataset study.yaml` names the
file, and tables then show the name that it gives itself.

Source: your own; its licence and citation stand in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from bench.data import Dataset
from bench.dataset import DatasetPlugin
from bench.errors import BadRequest
from bench.manifest import ManifestFile, read_manifest
from bench.manifest.building import Choices, build, find_table
from bench.manifest.spreadsheet import open_sheet, remarks
from bench.spec import Frozen


class ManifestConfig(Frozen):
    """What may be said over the file."""

    file: str = Field("", description="the YAML file; --dataset FILE.yaml says the same")
    missing_files: Literal["error", "absent"] | None = Field(
        None, description="what a file that is not there is; None: as the YAML says"
    )
    size: int | None = Field(
        None, ge=8, le=1024, description="side of all pictures; None: as the YAML says"
    )


class OwnData(DatasetPlugin):
    """A table with pictures and volumes beside it."""

    name = "manifest"
    display_name = "Own data"
    description = "your own table, pictures and volumes, described by a YAML file"
    citation = "not told"
    licence = "not told"
    config_class = ManifestConfig
    needs_root = False  # the folder of the YAML file serves
    manifest: ClassVar[ManifestFile | None] = None

    @classmethod
    def of_file(cls, path: Path) -> type[OwnData]:
        """Return the plugin of one YAML file, with its name, folds and citation.

        Raises:
            BadConfig: the file is no manifest.
        """
        file = read_manifest(path)
        said = file.manifest
        own_folds = said.folds and "n_folds" not in said.model_fields_set
        n_folds = 1 if said.split else 0 if own_folds else said.n_folds
        values = {
            "name": file.name,
            "display_name": file.name,
            "description": said.description or cls.description,
            "citation": said.citation,
            "licence": said.licence,
            "default_folds": n_folds,
            "recipe_defaults": said.recipe,
            "encoder_defaults": said.encoder,
            "manifest": file,
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
        }
        return type("OwnDataOfFile", (cls,), values)

    def load(self, config: ManifestConfig, root: Path | None) -> Dataset:
        """Read the table and find the files; decode none."""
        return build(self._file(config), root, Choices(config.missing_files, config.size))

    def load_new(self, config: ManifestConfig, root: Path | None) -> Dataset:
        """Read cases to predict: no label, group, split or fold is read, nor needed."""
        choices = Choices(config.missing_files, config.size)
        return build(self._file(config), root, choices, labelled=False)

    def oddities(self, config: ManifestConfig, root: Path | None) -> Sequence[str]:
        """Say what is odd in the table and was read all the same."""
        file = self._file(config)
        return list(remarks(open_sheet(file, find_table(file, root)[1])))

    def _file(self, config: ManifestConfig) -> ManifestFile:
        if self.manifest is not None:
            return self.manifest
        if not config.file:
            raise BadRequest(
                "manifest is read from a YAML file and none was named; say --dataset study.yaml, "
                "or write one with `bench new dataset FOLDER`"
            )
        return read_manifest(Path(config.file).expanduser())


PLUGIN = OwnData
