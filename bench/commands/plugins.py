"""Commands for plugins: list, info, test, new, cite."""

from __future__ import annotations

from pathlib import Path

import click

from bench.commands.options import PATH, command, plugin_options
from bench.errors import BadRequest


@command("list")
@click.argument("kind", required=False)
@click.option("--check", is_flag=True, help="import each and show why one fails")
@plugin_options
def list_plugins(kind: str | None, check: bool, include: tuple[Path, ...], override: bool) -> int:
    """List the plugins of a KIND (methods, datasets, protocols, reports, executors) or all."""
    from bench.plugins.listing import list_lines

    for line in list_lines(kind, check=check, include=include, override=override):
        print(line)
    return 0


@command()
@click.argument("name")
@plugin_options
def info(name: str, include: tuple[Path, ...], override: bool) -> int:
    """Print what a plugin says of itself: source, settings, presets, ablations, limits.

    NAME is a plugin, or one of recipe, encoder and augment, which all methods of a study share.
    """
    from bench.plugins.info import info_lines

    for line in info_lines(name, include, override=override):
        print(line)
    return 0


@command("test")
@click.argument("name")
@plugin_options
def check_plugin(name: str, include: tuple[Path, ...], override: bool) -> int:
    """Run the conformance suite on one plugin: a name, or a file of yours."""
    from bench.conformance import run_suite

    return run_suite(name, include, override=override)


@command()
@click.argument("kind")
@click.argument("name")
@click.option("--folder", type=PATH, help="where to write it; default: here, or beside the data")
def new(kind: str, name: str, folder: Path | None) -> int:
    """Write a first version: `bench new method NAME`, or `bench new dataset FOLDER` of your data.

    Of a folder with a table, pictures and volumes a YAML file is proposed; of one with a sub-folder
    per class a table as well. Nothing is overwritten.
    """
    if kind == "dataset":
        from bench.manifest.proposal import new_dataset
        from bench.registry import Registry

        print(new_dataset(Path(name), folder, Registry().names("dataset")))
        return 0
    from bench.plugins.scaffold import new_method

    if kind != "method":
        raise BadRequest(
            f"`bench new` writes a method or a dataset, got {kind!r}; say `bench new method {name}`"
        )
    for path in new_method(name, folder or Path()):
        print(path)
    return 0


@command()
@click.argument("names", nargs=-1)
@plugin_options
def cite(names: tuple[str, ...], include: tuple[Path, ...], override: bool) -> int:
    """Print BibTeX of the papers behind methods, with the citations of datasets as notes.

    NAMES are methods and datasets; without any, all are printed.
    """
    from bench.plugins.citations import cite_lines

    print("\n".join(cite_lines(names, include, override=override)).strip())
    return 0
