"""Write the first version of a plugin: a working file with its test, to be changed from there."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.errors import BadRequest
from bench.registry import Registry, folder_of

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

IMPORTED = {"Config", "Field", "Head", "Method", "Prediction", "Progress", "Projection", "Sequence"}
IMPORTED |= {"Task", "Tensor", "Tokens"}  # names that the template uses: no class may take them


def new_method(name: str, folder: Path) -> list[Path]:
    """Write a method plugin that trains as it is, and its test, into a folder.

    In the repository's own folder `methods/` there is no test to write: its tests already walk
    over every method.

    Args:
        name: the method's name on the command line, `mean-sum`; the file is `mean_sum.py`.
        folder: where to write; made if it is not there.

    Returns:
        The files written.

    Raises:
        BadRequest: a name that cannot be a method's, or a file that is already there.
    """
    _check_name(name)
    stem = name.replace("-", "_")
    templates = {folder / f"{stem}.py": "method.py.j2"}
    if folder.resolve() != folder_of("method").resolve():
        templates[folder / f"test_{stem}.py"] = "method_test.py.j2"
    for path in templates:
        if path.exists():
            raise BadRequest(f"{str(path)!r} is already there; choose another name or folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in templates.items():
        path.write_text(_render(template, name, stem), encoding="utf-8")
    return list(templates)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or name.split("-")[0] == "test":
        raise BadRequest(
            f"{name!r} cannot name a method; use lower-case words of letters and digits joined by "
            "'-', the first not 'test', such as mean-sum"
        )
    if name in Registry().names("method"):
        raise BadRequest(f"a method is named {name!r} already; choose another name")


def _render(template: str, name: str, stem: str) -> str:
    words = name.split("-")
    class_name = "".join(word.capitalize() for word in words)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # it writes Python
    )
    return environment.get_template(template).render(
        name=name,
        stem=stem,
        class_name=class_name + "Method" * (class_name in IMPORTED),
        display_name=" ".join(words).capitalize(),
    )
