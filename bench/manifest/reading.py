"""Read a manifest: safely, with every fault named by file, line and key."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bench.dataset.tables import composed
from bench.errors import BadConfig
from bench.manifest.schema import NAME, SOURCES, LabelColumn, Manifest
from bench.spec import Frozen

MAX_BYTES = 2**20
MAX_DEPTH = 20
# Of what pydantic says in words of Python.
WANTED = {
    "tuple_type": "it must be a list, [a, b, c]",
    "dict_type": "it must be a mapping, {name: value}",
    "model_type": "it must be a mapping, {key: value}",
    "model_attributes_type": "it must be a mapping, {key: value}",
    "string_type": "it must be a word",
    "too_short": "it is empty; name one at least",
    "too_long": "it has too many values",
}
TEXT, SEQUENCE, MAPPING, NULL = (
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map", "null")
)


class _Loader(yaml.SafeLoader):
    """Every scalar is text or nothing: `no`, `007` and `2020-01-01` stay what was written."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag == NULL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        TEXT: yaml.SafeLoader.construct_yaml_str,
        SEQUENCE: yaml.SafeLoader.construct_yaml_seq,
        MAPPING: yaml.SafeLoader.construct_yaml_map,
        NULL: yaml.SafeLoader.construct_yaml_null,
        None: yaml.SafeLoader.construct_undefined,
    }


@dataclass(frozen=True)
class ManifestFile:
    """A manifest and the file that it was read from."""

    path: Path
    manifest: Manifest
    root: yaml.Node  # for the lines of its keys

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.manifest.name or _name_of(self.path)

    @property
    def label(self) -> LabelColumn:
        """Where the label stands.

        Raises:
            BadConfig: the file does not say.
        """
        if self.manifest.label is None:
            raise BadConfig(f"{self.at()}: the key 'label' is missing; add label: ...")
        return self.manifest.label

    def at(self, *keys: str) -> str:
        """Say where a key stands: `study.yaml, line 7: modalities.photo.image`."""
        return _place(self.path, self.root, keys)


def manifest_name(path: Path) -> str:
    """Return the name of the dataset that a manifest describes; the rest is not checked.

    Raises:
        BadConfig: no YAML mapping, or the name cannot be a dataset's.
    """
    value = _compose(path)[1]
    name = value.get("name")
    if not name:
        return _name_of(path)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadConfig(
            f"{path}: name is {name!r}; use lower-case words of letters and digits joined by '-'"
        )
    return name


def read_manifest(path: Path) -> ManifestFile:
    """Read and check a manifest; its table is not opened.

    Raises:
        BadConfig: not readable, not YAML, or a key or value that a manifest does not have; the
            line and the nearest key are named.
    """
    root, value = _compose(path)
    try:
        manifest = Manifest(**value)
    except ValidationError as error:
        faults = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        raise BadConfig(_worded(path, root, dict(faults[0]))) from None
    if not manifest.name:
        _name_of(path)
    return ManifestFile(path, manifest, root)


def _name_of(path: Path) -> str:
    """Return the name that a file without one gives its dataset."""
    name = path.stem.lower().replace("_", "-").replace(" ", "-")
    if not NAME.fullmatch(name):
        raise BadConfig(
            f"{path}: the file's name makes no name for the dataset; give it one with name: ..."
        )
    return name


def _compose(path: Path) -> tuple[yaml.Node, dict[str, Any]]:
    """Return the tree of a YAML mapping and its value."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadConfig(f"{path}: the file is larger than {MAX_BYTES} bytes; is it a manifest?")
        text = composed(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise BadConfig(f"the manifest {path} cannot be read ({reason})") from None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        _check_tree(root, path)
        value = loader.construct_document(root) if root is not None else None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "too deep or with odd letters"
        raise BadConfig(f"{path}{line}: not YAML ({problem}); mend that line") from None
    if root is None or not isinstance(value, dict):
        raise BadConfig(f"{path}: a manifest is a mapping of keys, table: cases.csv and so on")
    return root, {str(key): each for key, each in value.items()}


def _check_tree(node: yaml.Node | None, path: Path) -> None:
    """Refuse keys that stand there twice, and references: they can unfold without end."""
    seen: set[int] = set()
    waiting = [(node, 0)] if node is not None else []
    while waiting:
        each, depth = waiting.pop()
        line = each.start_mark.line + 1
        if id(each) in seen or depth > MAX_DEPTH:
            raise BadConfig(f"{path}, line {line}: references (&, *) and deep nesting are not read")
        seen.add(id(each))
        if isinstance(each, yaml.SequenceNode):
            waiting += [(child, depth + 1) for child in each.value]
        if isinstance(each, yaml.MappingNode):
            keys = [key.value for key, _ in each.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(each.value):
                twice = next((key for key, n in Counter(keys).items() if n > 1), None)
                what = f"the key {twice!r} stands there twice" if twice else "a key is no word"
                raise BadConfig(f"{path}, line {line}: {what}; mend the manifest")
            waiting += [(child, depth + 1) for _, child in each.value]


def _place(path: Path, root: yaml.Node, keys: tuple[str, ...]) -> str:
    """Say where a key stands; keys that are not in the file are passed over."""
    node, line, said = root, root.start_mark.line, []
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            for name, child in node.value:
                if name.value == key:
                    node, line = child, name.start_mark.line
                    break
        elif isinstance(node, yaml.SequenceNode) and key.isdecimal():
            node = node.value[int(key)] if int(key) < len(node.value) else node
            line = node.start_mark.line
        said.append(key)
    return f"{path}, line {line + 1}: {'.'.join(said) or 'the manifest'}"


def _worded(path: Path, root: yaml.Node, error: dict[str, Any]) -> str:
    """Word a fault, with the nearest key where one is unknown."""
    loc = tuple(str(part) for part in error["loc"])
    model, keys = _model_at(loc), _written(loc)
    if error["type"] == "extra_forbidden":
        known = sorted(model.model_fields)
        near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        return f"{_place(path, root, keys)}: no key of a manifest is named so here; {hint}"
    if error["type"] == "missing":
        where = _place(path, root, keys[:-1])
        if keys[-1].isdecimal():
            return f"{where}: there are only {keys[-1]} values; give the others too"
        return f"{where}: the key {keys[-1]!r} is missing; add {keys[-1]}: ..."
    message = WANTED.get(error["type"], error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    came = error["input"]
    shown = f", got {came!r}" if isinstance(came, str | None) else ""
    return f"{_place(path, root, keys)}: {message}{shown}"


def _written(loc: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out what pydantic adds to the place of a fault: the kind of a modality."""
    if loc[:1] == ("modalities",) and len(loc) > 2 and loc[2] in SOURCES:
        return (*loc[:2], *loc[3:])
    return loc


def _model_at(loc: tuple[str, ...]) -> type[Frozen]:
    if loc[:1] == ("modalities",) and len(loc) > 2:
        return SOURCES.get(loc[2], Manifest)
    return LabelColumn if loc[:1] == ("label",) else Manifest
