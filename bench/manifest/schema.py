"""What a manifest may say. Every scalar of the file comes as text, so that `no` stays a word."""

from __future__ import annotations

import re
import string
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from bench.data import Attribute
from bench.dataset import MissingFiles
from bench.errors import BadConfig
from bench.free_text import checked_rules
from bench.spec import Frozen

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MODALITY = re.compile(r"[A-Za-z][A-Za-z0-9_]*([ -][A-Za-z0-9_]+)*")
KINDS = ("image", "volume", "table", "vector", "report")
FILES = KINDS[:2]
NO_REASON = "said to give the label away"
SENTENCE = Attribute("").template
REPORT_SENTENCE = "{value}"


def _listed(value: object) -> object:
    """Take one word for a list of one."""
    return [value] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class LabelColumn(Frozen):
    """Where the label stands and what its cells mean."""

    column: str
    classes: tuple[str, ...] = Field((), description="their order; empty: that of the words")
    words: dict[str, str] = Field({}, description="class of each cell, where they differ")
    leave_out: Words = Field((), description="cells whose cases are left out; '' is blank")

    @model_validator(mode="before")
    @classmethod
    def _column_alone(cls, value: object) -> object:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _classes_are_two_or_more(self) -> LabelColumn:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1:
            raise ValueError("classes must be two or more, each once")
        strange = [name for name in self.words.values() if name not in (self.classes or (name,))]
        if strange:
            raise ValueError(f"words name the class {strange[0]!r}, which is none of the classes")
        return self


class ImageColumn(Frozen):
    """Pictures: a column of paths, or a path with {case} or a column's name in it."""

    image: str
    size: int = Field(224, ge=8, le=1024, description="side in pixels")
    channels: int = Field(3, description="3, or 1 for grey")
    encoder: str = Field("", description="name of an encoder that several share")

    @field_validator("channels")
    @classmethod
    def _grey_or_colour(cls, value: int) -> int:
        if value not in (1, 3):
            raise ValueError("channels must be 1 or 3")
        return value


class VolumeColumn(Frozen):
    """Volumes: a column of paths, or a path with {case} or a column's name in it."""

    volume: str
    shape: tuple[
        Annotated[int, Field(ge=1, le=4096)],
        Annotated[int, Field(ge=1, le=4096)],
        Annotated[int, Field(ge=1, le=4096)],
    ] = Field(description="slices, rows, columns")
    channels: int = Field(1, ge=1, le=64)
    encoder: str = Field("", description="name of an encoder that several share")


class AttributeColumn(Frozen):
    """What the cells of an attribute are; nothing said: numbers, if all are."""

    kind: Literal["", "numeric", "categorical"] = ""
    categories: tuple[str, ...] = ()
    words: dict[str, str] = {}  # what each cell means

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if value is None or isinstance(value, str):
            return {"kind": value or ""}
        if isinstance(value, list):
            return {"kind": "categorical", "categories": value}
        if isinstance(value, dict) and not set(value) & {"categories", "words"}:
            return {"kind": "categorical", "words": value}
        return value


def _once(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a column that is named twice."""
    if len(set(columns)) != len(columns):
        raise ValueError("a column is named twice")
    return columns


def _attributes(value: object) -> object:
    """Take a list of columns for a mapping that says nothing of them."""
    if isinstance(value, str | list):
        columns = (value,) if isinstance(value, str) else tuple(map(str, value))
        return dict.fromkeys(_once(columns))
    return value


class TableColumns(Frozen):
    """Attributes of one tabular modality; `lab_*` names all columns that begin so."""

    table: Annotated[dict[str, AttributeColumn], BeforeValidator(_attributes)] = Field(min_length=1)


class VectorColumns(Frozen):
    """Numbers that come together: all of a case, or none."""

    vector: Annotated[Words, AfterValidator(_once)] = Field(min_length=1)


class ReportColumn(Frozen):
    """A free text: by rules, the attributes that it mentions; without, one value as a whole.

    With `cls` it is a vector: what a frozen language model makes of the whole text.
    """

    report: str
    rules: dict[str, Any] = Field({}, description="attributes from free text")
    model: str = Field("", description="folder of an instruction model that reads by the rules")
    corrected: str = Field("", description="table that a person corrected; it wins")
    cls: str = Field("", description="folder or hub id of a model whose [CLS] is the report")

    @field_validator("rules")
    @classmethod
    def _usable(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            if value:
                checked_rules(value)
        except BadConfig as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _reads_by_rules(self) -> ReportColumn:
        if (self.model or self.corrected) and not self.rules:
            raise ValueError("model and corrected need rules: they name the attributes")
        if self.cls and self.rules:
            raise ValueError("cls reads a report as a whole and rules its attributes; give one")
        return self


def _kind_of(value: object) -> str | None:
    said = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    kinds = [kind for kind in KINDS if kind in said]
    return kinds[0] if len(kinds) == 1 else None


Source = Annotated[
    Annotated[ImageColumn, Tag("image")]
    | Annotated[VolumeColumn, Tag("volume")]
    | Annotated[TableColumns, Tag("table")]
    | Annotated[VectorColumns, Tag("vector")]
    | Annotated[ReportColumn, Tag("report")],
    Discriminator(
        _kind_of,
        custom_error_type="kind",
        custom_error_message="a modality says one of image, volume, table, vector and report",
    ),
]
SOURCES: dict[str, type[Frozen]] = {
    "image": ImageColumn,
    "volume": VolumeColumn,
    "table": TableColumns,
    "vector": VectorColumns,
    "report": ReportColumn,
}


def _reasons(value: object) -> object:
    """Take a list of leaking columns for a mapping to a plain reason."""
    if isinstance(value, str | list):
        return dict.fromkeys([value] if isinstance(value, str) else map(str, value), NO_REASON)
    return value


class Manifest(Frozen):
    """The user's own dataset."""

    name: str = Field("", description="in tables and on the command line; empty: the file's name")
    description: str = ""
    citation: str = "not told"
    licence: str = "not told"
    table: str = Field(description="CSV or XLSX, below the data root")
    sheet: str = Field("", description="of an XLSX file; empty: the first that is not hidden")
    delimiter: Literal["", ",", ";", "tab", "|"] = Field("", description="empty: the header tells")
    encoding: Literal["", "utf-8", "utf-16", "cp1252", "latin-1"] = Field(
        "", description="empty: UTF-8, or UTF-16 that says so"
    )
    case: str = Field(description="column that names each case")
    label: LabelColumn | None = Field(None, description="needed but for cases to predict")
    group: str = Field("", description="column whose cases never part (patient)")
    split: str = Field("", description="column of train, valid and test")
    folds: str = Field("", description="column of fold numbers, from 0 or 1")
    n_folds: int = Field(5, ge=2, le=100, description="drawn where neither is given")
    columns: Words = Field((), description="subgroups for tables and splits (site, scanner)")
    missing_values: Words = Field((), description="cells that mean absent, as a blank does")
    missing_files: MissingFiles = "error"
    allow_outside: bool = Field(False, description="paths may leave the data root")
    modalities: dict[str, Source] = Field(min_length=1)
    templates: dict[str, str] = Field({}, description="sentence of an attribute, with {value}")
    leaks: Annotated[dict[str, str], BeforeValidator(_reasons)] = {}
    recipe: dict[str, str] = Field({}, description="defaults of the training")
    encoder: dict[str, str] = Field({}, description="defaults of the encoders")

    COSMETIC: ClassVar[frozenset[str]] = frozenset(
        {"name", "description", "citation", "licence", "recipe", "encoder", "allow_outside"}
    )

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if value and not NAME.fullmatch(value):
            raise ValueError("a name is lower-case words of letters and digits joined by '-'")
        return value

    @field_validator("modalities")
    @classmethod
    def _plain_modalities(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not MODALITY.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot name a modality; use letters, digits and underscores"
                )
        said = [getattr(each, kind, "") for each in value.values() for kind in FILES]
        twice = next((path for path in said if path and said.count(path) > 1), "")
        if twice:
            raise ValueError(
                f"two modalities take the files of {twice!r}, and what is absent in one would "
                "stand in the other; keep one"
            )
        return value

    @field_validator("templates")
    @classmethod
    def _sentences(cls, value: dict[str, str]) -> dict[str, str]:
        for column, template in value.items():
            if not is_sentence(template):
                raise ValueError(
                    f"the template of {column!r} must hold {{value}}, may hold {{name}}, and no "
                    "other braces"
                )
        return value


def is_sentence(template: str) -> bool:
    """Say whether a template has a place for the value, and none for anything unknown."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return False
    fields = {field for _, field, _, _ in parts if field is not None}
    plain = not any(spec or conversion for _, _, spec, conversion in parts)
    return plain and "value" in fields and fields <= {"name", "value"}
