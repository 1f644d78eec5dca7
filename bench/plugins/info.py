"""Lines of `bench info NAME`: what a plugin says of itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.errors import unknown
from bench.plugin_file import FOLDERS, Kind
from bench.plugins.listing import aligned
from bench.registry import Found, Registry
from bench.spec import Augmentation, EncoderConfig, Recipe

SHARED = {"recipe": Recipe, "encoder": EncoderConfig, "augment": Augmentation}
HOW_TO_SET = {"augment": "encoder.augment='{KEY: VALUE, ...}'"}


def info_lines(name: str, include: Sequence[Path], *, override: bool) -> Iterator[str]:
    """Describe a plugin of any kind, or the settings `recipe`, `encoder` and `augment`.

    Raises:
        UnknownName: no plugin of any kind has this name.
        BadPlugin: it cannot be imported.
    """
    if name in SHARED:
        yield f"{name}: the settings that all methods of a study share"
        yield from _settings(name, SHARED[name])
        return
    registry = Registry(include, override=override)
    kinds = [kind for kind in FOLDERS if name in registry.names(kind)]
    if not kinds:
        raise unknown("plugin", name, [each for kind in FOLDERS for each in registry.names(kind)])
    for kind in kinds:
        yield from _describe(kind, registry.find(kind, name), registry.load(kind, name))


def _describe(kind: Kind, found: Found, plugin: Any) -> Iterator[str]:
    yield f"{found.name}: {kind}, {found.source}" + (f" ({found.path})" if found.path else "")
    module = inspect.getmodule(plugin)
    yield from ["", *inspect.cleandoc(module.__doc__ or "").splitlines()]
    for attribute in ("citation", "licence"):
        if getattr(plugin, attribute, ""):
            yield f"{attribute}: {getattr(plugin, attribute)}"
    if kind == "method":
        yield from _method_lines(plugin)
    if kind == "dataset":
        yield from _dataset_lines(plugin)
    if kind == "protocol":
        yield from ["", f"model selection: {plugin.selection}", *plugin().words()]
    config = getattr(plugin, "config_class", None)
    if config is None or not config.model_fields:
        return
    if kind == "executor":
        yield from ["", "settings (in the YAML file of --executor-config)"]
        yield from aligned([_field(key, field) for key, field in config.model_fields.items()])
    else:
        yield from _settings(found.name, config)


def _settings(section: str, config: Any) -> Iterator[str]:
    yield from ["", f"settings (--set {HOW_TO_SET.get(section, f'{section}.KEY=VALUE')})"]
    yield from aligned([_field(key, field) for key, field in config.model_fields.items()])


def _field(key: str, field: Any) -> tuple[str, str, str]:
    default = (
        "required" if field.is_required() else repr(field.get_default(call_default_factory=True))
    )
    return f"  {key}", default, field.description or ""


def _method_lines(plugin: Any) -> Iterator[str]:
    source = plugin.reference
    if source is not None:
        arxiv = f", arXiv {source.arxiv}" if source.arxiv else ""
        place = f"{source.venue} {source.year}".strip()
        yield f"source: {source.authors}, {source.title!r}, {place}{arxiv}"
    yield f"modality dropout: {plugin.dropout_law(plugin.config_class())}"
    yield f"limits: {_limits(plugin.capabilities)}"
    for title in ("presets", "ablations"):
        entries = getattr(plugin, title)
        if entries:
            yield from ["", title]
            yield from aligned([(f"  {name}", str(dict(each))) for name, each in entries.items()])


def _limits(can: Any) -> str:
    most = "any number of" if can.max_modalities is None else f"at most {can.max_modalities}"
    parts = [f"{most} modalities, at least {can.min_modalities}"]
    if can.kinds:
        parts.append(f"one of kind {' or '.join(can.kinds)}")
    if can.needs_complete_training:
        parts.append("complete training data")
    if not can.attribute_level:
        parts.append("no attribute-level gaps")
    return ", ".join(parts) + (f" ({can.reason})" if can.reason else "")


def _dataset_lines(plugin: Any) -> Iterator[str]:
    seeds = ", ".join(map(str, plugin.default_seeds))
    yield f"folds: {plugin.default_folds or 'its own'}, seeds: {seeds}"
    if plugin.needs_root:
        yield "files: give their folder with --data-root or BENCH_DATA_DIR"
    for title in ("recipe_defaults", "encoder_defaults"):
        values = getattr(plugin, title)
        if values:
            yield f"{title.replace('_', ' ')}: {dict(values)}"
