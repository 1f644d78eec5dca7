"""BibTeX of the papers behind methods and datasets: the answer to `bench cite`."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.errors import BadConfig, BadPlugin, unknown
from bench.plugin_file import Kind, is_manifest
from bench.registry import Registry

KINDS: tuple[Kind, ...] = ("method", "dataset")
SPECIAL = {char: "\\" + char for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def cite_lines(names: Sequence[str], include: Sequence[Path], *, override: bool) -> Iterator[str]:
    """Write one entry per paper, with the methods it stands for in a comment above it.

    Args:
        names: methods and datasets; empty: all of them.
        include: the user's own plugins.
        override: let them take a built-in's name.

    Raises:
        UnknownName: neither a method nor a dataset has this name.
        BadPlugin: a plugin that was named cannot be imported.
    """
    registry = Registry(include, override=override)
    wanted = {kind: _wanted(registry, kind, names) for kind in KINDS}
    for name in names:
        if not any(name in each for each in wanted.values()):
            known = [each for kind in KINDS for each in registry.names(kind)]
            raise unknown("method or dataset", name, known)
    methods, broken = _loaded(registry, "method", wanted["method"], strict=bool(names))
    datasets, more = _loaded(registry, "dataset", wanted["dataset"], strict=bool(names))
    yield from _method_entries(methods)
    for name, plugin in datasets.items():
        yield from ["", *_entry(_ascii(name), _dataset_fields(plugin))]
    for name, reason in (broken | more).items():
        yield f"% {name} cannot be imported: {' '.join(reason.split())}"


def read_cite_lines(names: Collection[str], include: Sequence[Path] = ()) -> Iterator[str]:
    """Write the entries of methods and datasets from what their files say, importing none.

    A plugin that is no longer there, or does not write its reference as a plain literal, is named
    in a comment.
    """
    registry = Registry(include)
    pages = {
        kind: {each.name: _page(each.path) for each in registry.scan(kind) if each.name in names}
        for kind in KINDS
    }
    yield from _method_entries(pages["method"])
    for name, page in pages["dataset"].items():
        yield from ["", *_entry(_ascii(name), _dataset_fields(page))]
    unknown_names = [name for name in names if not any(name in each for each in pages.values())]
    if unknown_names:
        yield f"% not found among the plugins: {', '.join(unknown_names)}"


def _page(path: Path) -> SimpleNamespace:
    """Read the literals that the classes of a plugin file have as attributes."""
    page = SimpleNamespace(reference=None, display_name="", citation="", licence="")
    if is_manifest(path):
        return _page_of_manifest(page, path)
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return page
    statements = [
        each for node in tree.body if isinstance(node, ast.ClassDef) for each in node.body
    ]
    for each in statements:
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
            name = each.targets[0].id
            if name == "reference":
                page.reference = _reference_of(each.value)
            elif isinstance(each.value, ast.Constant) and isinstance(each.value.value, str):
                setattr(page, name, each.value.value)
    return page


def _page_of_manifest(page: SimpleNamespace, path: Path) -> SimpleNamespace:
    from bench.manifest import read_manifest

    try:
        said = read_manifest(path)
    except BadConfig:
        return page
    page.display_name, page.citation = said.name, said.manifest.citation
    page.licence = said.manifest.licence
    return page


def _reference_of(node: ast.expr) -> SimpleNamespace | None:
    """Read `Reference(title=..., ...)`; None if it is no call of literals."""
    fields: dict[str, Any] = {"venue": "", "arxiv": "", "code": ""}
    keywords = node.keywords if isinstance(node, ast.Call) else []
    try:
        fields |= {str(each.arg): ast.literal_eval(each.value) for each in keywords}
    except ValueError:
        return None
    return SimpleNamespace(**fields) if {"title", "authors", "year"} <= set(fields) else None


def _wanted(registry: Registry, kind: Kind, names: Sequence[str]) -> list[str]:
    return [name for name in registry.names(kind) if not names or name in names]


def _loaded(
    registry: Registry, kind: Kind, names: Sequence[str], *, strict: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Import plugins; without `strict` one that fails has its reason and the rest goes on."""
    plugins, broken = {}, {}
    for name in names:
        try:
            plugins[name] = registry.load(kind, name)
        except BadPlugin as error:
            if strict:
                raise
            broken[name] = str(error)
    return plugins, broken


def _method_entries(plugins: Mapping[str, Any]) -> Iterator[str]:
    """Write the papers of methods, each once; methods without a paper are listed at the end."""
    papers: dict[str, list[str]] = {}
    for name, plugin in plugins.items():
        if plugin.reference is not None:
            papers.setdefault(_ascii(plugin.reference.title), []).append(name)
    keys: set[str] = set()
    for names in papers.values():
        reference = plugins[names[0]].reference
        key = _unused(_key(reference), keys)
        yield from ["", f"% {', '.join(names)}", *_entry(key, _reference_fields(reference))]
    own = [name for name, plugin in plugins.items() if plugin.reference is None]
    if own:
        yield from ["", f"% without a paper of their own: {', '.join(own)}"]


def _reference_fields(reference: Any) -> dict[str, str]:
    """Name the fields of a paper; the kind of its venue is not known, so none is claimed."""
    eprint = {"eprint": reference.arxiv, "archiveprefix": "arXiv"} if reference.arxiv else {}
    return {
        "author": _authors(reference.authors),
        "title": reference.title,
        "year": str(reference.year),
        "howpublished": reference.venue,
        **eprint,
        "note": f"Code: {reference.code}" if reference.code else "",
    }


def _dataset_fields(plugin: Any) -> dict[str, str]:
    licence = f"Licence: {plugin.licence.rstrip('.')}." if plugin.licence else ""
    return {"title": plugin.display_name, "note": f"{plugin.citation.rstrip('.')}. {licence}"}


def _authors(names: str) -> str:
    """Turn `A. One, B. Two et al.` into `A. One and B. Two and others`."""
    named, *others = re.split(r",?\s+et al\.?$", names.strip())
    listed = [name.strip() for name in re.split(r",| and ", named) if name.strip()]
    return " and ".join([*listed, "others"] if others else listed)


def _key(reference: Any) -> str:
    """Make a key as most do: family name of the first author, year, first word of the title."""
    first = _authors(reference.authors).split(" and ")[0].split()[-1:]
    words = re.findall(r"[a-z0-9]+", _ascii(reference.title).replace("-", ""))
    long_ones = [word for word in words if len(word) > 3] or words
    return _ascii("".join(first)) + str(reference.year) + "".join(long_ones[:1])


def _unused(key: str, taken: set[str]) -> str:
    """Return the key, or with the first letter that makes it another."""
    letters = iter("bcdefghijklmnopqrstuvwxyz")
    free = key
    while free in taken:
        free = key + next(letters)
    taken.add(free)
    return free


def _ascii(text: str) -> str:
    """Fold case and accents, so that one paper written in two ways is one."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(plain.lower().split())


def _entry(key: str, fields: Mapping[str, str]) -> Iterator[str]:
    yield f"@misc{{{key},"
    for name, value in fields.items():
        if value.strip():
            text = _escaped(value)
            # a second pair of braces keeps the capitals of a title
            yield f"  {name} = {{{{{text}}}}}," if name == "title" else f"  {name} = {{{text}}},"
    yield "}"


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(char, char) for char in " ".join(text.split()))
