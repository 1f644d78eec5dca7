"""What a user asks for, before it is resolved: names, repeats, settings in layers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from bench.errors import BadConfig, BadRequest, unknown
from bench.plugin_file import is_manifest
from bench.spec import Balance, EncoderConfig, Frozen, Recipe, SelectionRule, Tuned

PRESETS = Path(__file__).parent / "presets"
FLOOR = ("logistic-specialist", "logistic-meanfill", "pattern-only")
BUDGET = ("recipe", "encoder")  # all that a preset of --preset has
SECTIONS = (*BUDGET, "methods", "datasets", "protocols")
NAMES = ("method", "dataset", "protocol")


class Request(Frozen):
    """One study as asked for. Layers, later wins: dataset's defaults, preset, file, flags."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...] = ("wdbc",)
    protocols: tuple[str, ...] = ("all-subsets",)
    folds: tuple[int, ...] | None = None
    n_folds: int | None = Field(None, ge=1)
    seeds: tuple[int, ...] | None = None
    preset: str = "quick"
    settings: dict[str, dict[str, Any]] = {}  # `recipe`, `encoder`, a method or a dataset
    gaps: dict[str, Any] = {}  # --rates, --level ...: for each protocol that takes them
    by_fold: dict[int, dict[str, dict[str, Any]]] = {}  # settings of one fold, over the others
    tuned: Tuned = ""  # how a search found the settings of the methods asked for
    split_by: str = ""  # column of leave-one-group-out
    balance: Balance | None = None
    train_dropout: Literal["own", "none", "uniform"] | None = None
    selection: SelectionRule | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=1)
    floor: bool = True
    keep_representations: bool = False  # of the test cases, for figures; part of no run's identity
    include: tuple[str, ...] = ()
    override: bool = False
    checkpoint_every: float = Field(30.0, ge=0)  # seconds; 0: after every epoch
    keep_checkpoints: bool = False
    data_root: str | None = None
    out: str = "results"
    study: str = "main"

    @model_validator(mode="before")
    @classmethod
    def _manifests_by_name(cls, values: Any) -> Any:
        return with_manifests(values) if isinstance(values, Mapping) else values

    @property
    def rows(self) -> tuple[str, ...]:
        """The methods asked for, with the floor below them."""
        floor = FLOOR if self.floor else ()
        return tuple(dict.fromkeys(self.methods + floor))

    def alone(self, row: str, dataset: str | None = None, protocol: str | None = None) -> Request:
        """Return the request for one method itself: no floor, and no settings of the others.

        Args:
            row: `NAME` or `NAME:PRESET`; a bare name is not expanded into the rows of a comparison.
            dataset: one of those asked for; None: all.
            protocol: likewise.
        """
        kept = {
            "methods": (row if ":" in row else f"{row}:",),
            "datasets": self.datasets if dataset is None else (dataset,),
            "protocols": self.protocols if protocol is None else (protocol,),
        }
        others = {
            *(each.partition(":")[0] for each in self.methods),
            *self.datasets,
            *self.protocols,
        }
        own = {row.partition(":")[0], *kept["datasets"], *kept["protocols"]}
        settings = {k: v for k, v in self.settings.items() if k in own or k not in others}
        return self.model_copy(update={**kept, "floor": False, "settings": settings})

    def parts(self) -> list[Request]:
        """Return a request per fold that has settings of its own, or the request itself.

        Raises:
            BadRequest: a fold is asked for that has none.
        """
        if not self.by_fold:
            return [self]
        folds = self.folds if self.folds is not None else tuple(self.by_fold)
        for fold in folds:
            if fold not in self.by_fold:
                raise BadRequest(
                    f"fold {fold} has no settings: by_fold names the folds "
                    f"{', '.join(map(str, self.by_fold))}; tune that fold, or leave it out"
                )
        return [
            self.model_copy(
                update={
                    "folds": (fold,),
                    "settings": merge(self.settings, self.by_fold[fold]),
                    "by_fold": {},
                }
            )
            for fold in folds
        ]

    @property
    def budget(self) -> str:
        """Name the training budget for captions: the preset, and what was changed of it."""
        changed = [
            f"{section}.{key}" if isinstance(value, Mapping) else f"{section}.{key}={value}"
            for section in ("recipe", "encoder")
            for key, value in self.settings.get(section, {}).items()
        ]
        return f"{self.preset} with {', '.join(changed)}" if changed else self.preset


def checked(model: type[BaseModel], values: Mapping[str, Any], what: str) -> Any:
    """Build a configuration; a wrong key or value is one line.

    Raises:
        BadConfig: names the key, what came, and the nearest known key.
    """
    for key in values:
        if key not in model.model_fields:
            error = unknown(f"setting of {what}", str(key), model.model_fields)
            raise BadConfig(str(error))
    try:
        found = model(**values)
        model.model_validate(found.model_dump(warnings=False))  # the defaults too
        return found
    except ValidationError as error:
        command = "run --help" if what == "run" else f"info {what}"
        raise BadConfig(f"{what}.{_fault(error)}; see `bench {command}`") from None


def _fault(error: ValidationError) -> str:
    """Say which key is wrong, what it wants and what came; all that it wants, if there is a choice.

    A choice of types, as `mean` or a number, fails once for each of them, for the same value.
    """
    first, *others = error.errors()
    name, came = first["loc"][0] if first["loc"] else "", first["input"]
    same = [each for each in others if each["loc"][:1] == (name,) and each["input"] is came]
    key = name if same else ".".join(map(str, first["loc"]))
    wants = [each["msg"].lower().removeprefix("input should be ") for each in same]
    said = first["msg"].lower().removeprefix("value error, ")
    return f"{key}: {' or '.join([said, *wants])}, got {came!r}"


def with_manifests(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Take datasets that are named by the path of a manifest as plugins that are included.

    `-d study.yaml`, or `-d manifest --set manifest.file=study.yaml`, becomes the name that the file
    gives itself, with the file among `include`.

    Raises:
        BadConfig: such a file cannot be read, or its name cannot be a dataset's.
        BadRequest: a folder or another file is named.
    """
    settings = dict(asked.get("settings") or {})
    names: list[Any] = []
    files: list[str] = []
    datasets = asked.get("datasets")
    for each in datasets if isinstance(datasets, list | tuple) else ():
        own = settings.get(each) if each == "manifest" else None
        file = own.get("file") if isinstance(own, Mapping) else None
        if file is None and not (isinstance(each, str) and is_manifest(each)):
            _check_no_path(each)
            names.append(each)
            continue
        path = Path(str(file or each)).expanduser().absolute()
        names.append(_manifest_name(path))
        files.append(str(path))
        if isinstance(own, Mapping):
            del settings[each]
            rest = {key: value for key, value in own.items() if key != "file"}
            settings[names[-1]] = rest | settings.get(names[-1], {})
    if not files:
        return dict(asked)
    include = dict.fromkeys([*(asked.get("include") or ()), *files])
    changed = {"datasets": names, "include": list(include), "settings": settings}
    return {**asked, **changed}


def _check_no_path(name: object) -> None:
    """Refuse a folder, or a file that is no manifest, in place of a dataset."""
    if not isinstance(name, str) or not (os.sep in name or Path(name).suffix):
        return
    if Path(name).expanduser().exists():
        raise BadRequest(
            f"{name!r} is neither a dataset's name nor a .yaml that describes one; "
            "`bench new dataset FOLDER` writes such a file"
        )


def _manifest_name(path: Path) -> str:
    from bench.manifest import manifest_name

    return manifest_name(path)


def recipe_of(request: Request, dataset_defaults: Mapping[str, Any]) -> Recipe:
    """Resolve the training recipe that all methods of a dataset share."""
    values = dict(dataset_defaults) | _preset(request.preset).get("recipe", {})
    values |= request.settings.get("recipe", {})
    if request.balance is not None:
        values["balance"] = request.balance
    if request.train_dropout is not None:
        values["train_dropout"] = request.train_dropout
    return checked(Recipe, values, "recipe")


def encoder_of(request: Request, dataset_defaults: Mapping[str, Any]) -> EncoderConfig:
    """Resolve the encoders that all methods of a dataset share."""
    values = dict(dataset_defaults) | _preset(request.preset).get("encoder", {})
    return checked(EncoderConfig, values | request.settings.get("encoder", {}), "encoder")


def _preset(name: str) -> dict[str, Any]:
    """Return the budget of a preset.

    Raises:
        BadRequest: it is a whole study.
    """
    values = read_yaml(preset_path(name))
    if not _is_budget(values):
        raise BadRequest(
            f"{name} is a whole study and not a budget for others; say --config {name}"
        )
    return values


def _is_budget(values: Mapping[str, Any]) -> bool:
    return set(values) <= set(BUDGET)


def preset_path(name: str) -> Path:
    """Return the file of a preset, a budget or a whole study.

    Raises:
        UnknownName: there is none of this name; a budget may be meant.
    """
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        budgets = (each.stem for each in PRESETS.glob("*.yaml") if _is_budget(read_yaml(each)))
        raise unknown("preset", name, budgets)
    return path


def read_config(config: Path) -> dict[str, Any]:
    """Read what `--config` names: a file, or the study of a paper that comes with the package.

    Raises:
        UnknownName: it looks like a name and neither is there.
        BadConfig: the file cannot be read or is not a mapping.
    """
    is_name = config.name == str(config) and not config.suffix
    if config.is_file() or not is_name:
        return read_yaml(config)
    path = PRESETS / f"{config}.yaml"
    if not path.is_file():
        raise unknown("study or file", str(config), (each.stem for each in PRESETS.glob("*.yaml")))
    return read_yaml(path)


def layered(
    file: Mapping[str, Any], flags: Mapping[str, Any], pairs: tuple[str, ...]
) -> dict[str, Any]:
    """Lay the flags over a configuration file: the fields of a request, not yet checked.

    Settings of a method, dataset or protocol that the file names and the flags replace are left
    out; gaps are laid over each other one by one.

    Args:
        file: its content; it may say `method` or `methods` of the names.
        flags: fields of a request; None and empty ones were not given.
        pairs: as of `settings_of`.
    """
    asked = {key: value for key, value in file.items() if not _is_section(key, value)}
    for key in NAMES:
        if key in asked:
            value = asked.pop(key)
            asked[f"{key}s"] = [value] if isinstance(value, str) else value
    flags = with_manifests(flags)
    named = _plugins(asked)
    gaps = asked.get("gaps")
    asked |= {key: value for key, value in flags.items() if value not in (None, [], (), {})}
    if isinstance(gaps, Mapping):
        asked["gaps"] = {**gaps, **(flags.get("gaps") or {})}
    for key in ("folds", "seeds"):
        if isinstance(asked.get(key), str):
            asked[key] = numbers(asked[key], f"--{key}")
    replaced = named - _plugins(asked)
    below = {name: each for name, each in settings_of_file(file).items() if name not in replaced}
    for name in _plugins({"protocols": asked.get("protocols")}) & set(below):  # a flag wins
        below[name] = {k: v for k, v in below[name].items() if k not in (flags.get("gaps") or {})}
    return asked | {"settings": merge(below, settings_of(pairs))}


def _is_section(key: str, value: object) -> bool:
    """Say whether a part of a file holds settings; `protocols` may also list the names."""
    return key in SECTIONS and not (key == "protocols" and isinstance(value, list | str))


def _plugins(asked: Mapping[str, Any]) -> set[str]:
    """Name the plugins of a request that is not yet checked, without their presets."""
    lists = [asked.get(f"{key}s") for key in NAMES]
    rows = [row for each in lists if isinstance(each, list | tuple) for row in each]
    return {row.partition(":")[0] for row in rows if isinstance(row, str)}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        BadConfig: the file cannot be read or is not a mapping; names the line.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"the configuration {path} cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2020-13-45 looks like a date
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        raise BadConfig(f"the configuration {path} is not YAML{line}; mend that line") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadConfig(f"the configuration {path} is a {type(value).__name__}, not a mapping")
    return value


def settings_of(pairs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Parse `--set cmml.memory_size=64` flags; values are read as YAML."""
    settings: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        target, equals, text = pair.partition("=")
        section, dot, key = target.partition(".")
        if not (equals and dot and section and key):
            raise BadRequest(f"--set wants SECTION.KEY=VALUE, got {pair!r}")
        try:
            settings.setdefault(section, {})[key.replace("-", "_")] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            raise BadRequest(f"--set {target}: {text!r} is not a YAML value") from None
    return settings


def settings_of_file(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Take the sections of a configuration file apart: `methods: {cmml: ...}` and so on."""
    settings: dict[str, dict[str, Any]] = {}
    for section in (each for each in SECTIONS if _is_section(each, config.get(each))):
        values = config.get(section, {})
        if not isinstance(values, Mapping):
            raise BadConfig(f"section {section!r} of the configuration is not a mapping")
        named = {section: values} if section in ("recipe", "encoder") else values
        for name, each in named.items():
            if not isinstance(each, Mapping):
                raise BadConfig(f"{section}.{name} of the configuration is not a mapping")
            settings[str(name)] = dict(each)
    return settings


def merge(
    below: Mapping[str, dict[str, Any]], above: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Lay one set of settings over another, key by key."""
    return {
        section: below.get(section, {}) | above.get(section, {})
        for section in [*below, *(name for name in above if name not in below)]
    }


def numbers(text: str, what: str) -> tuple[int, ...]:
    """Parse `0-4`, `0,2` or `3` into whole numbers."""
    found: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise BadRequest(f"{what} wants numbers such as 0-4 or 0,2, got {text!r}")
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise BadRequest(f"{what} names no number: {text!r} counts down; write it upwards")
    return tuple(dict.fromkeys(found))
