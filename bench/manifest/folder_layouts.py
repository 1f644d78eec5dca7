"""What the files below a folder are of which case, where sub-folders are named after it.

Told apart are, each also below folders of train, valid and test:

    class/case.png            every file is a case
    class/case/modality.png   no two classes have a case's folder of one name
    modality/class/case.png   files of one name lie in several modalities and in one class
    class/modality/case.png   likewise

What could be two of these is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from bench.dataset.tables import composed
from bench.errors import BadData
from bench.manifest.columns import PARTS
from bench.manifest.matching import MAX_SOURCES, MIN_SHARE, PIECE, ending_of, kind_of, mark_case
from bench.wording import listed, some_of

# The end of a file's name that may be a modality or a mask: `a_derm`, `a-mask`, `a t1`.
LAST_WORD = re.compile(r"(.+?)[_\-. ]+([A-Za-z]+\d*)")


@dataclass(frozen=True)
class Place:
    """Where a picture or volume lies, as words."""

    part: str  # the folder's own word
    folders: tuple[str, ...]  # below the part
    stem: str
    path: Path


@dataclass(frozen=True)
class Belonging:
    """What a picture or volume is of which case."""

    case: tuple[str, str, str]  # part, class, own name
    modality: str
    path: Path


def places_of(folder: Path, files: Iterable[Path]) -> list[Place]:
    """Part the path of each file.

    Raises:
        BadData: a file lies in no folder, or parts and other folders lie side by side.
    """
    split = [(path, composed(path.relative_to(folder).as_posix()).split("/")) for path in files]
    tops = {words[0] for _, words in split if len(words) > 1}
    parts = {top for top in tops if top.lower() in PARTS}
    if parts and parts != tops:
        raise BadData(
            f"{listed(sorted(parts))} name parts of a split and {min(tops - parts)!r} does not"
        )
    depth = 1 if parts else 0
    for _, words in split:
        if len(words) <= depth + 1:
            raise BadData(
                f"{'/'.join(words)!r} lies in no class's folder (take it out if it is no case)"
            )
    return [
        Place(
            words[0] if parts else "",
            tuple(words[depth:-1]),
            words[-1].removesuffix(ending_of(path)),
            path,
        )
        for path, words in split
    ]


def belongings_of(places: Sequence[Place]) -> list[Belonging]:
    """Say of each file what it is of which case.

    Raises:
        BadData: that can be read in several ways, or in none.
    """
    depths = {len(each.folders): _shown(each) for each in places}
    if len(depths) > 1:
        raise BadData(f"{listed(sorted(depths.values())[:2])} do not lie equally deep")
    tops = {each.folders[0] for each in places}
    if len(tops) == 1:
        raise BadData(f"all lie in {tops.pop()!r}: name that folder if the classes are in it")
    if set(depths) == {1}:
        return _files_as_cases(places)
    if set(depths) == {2}:
        of_folder: dict[tuple[str, str], set[str]] = {}
        for each in places:
            of_folder.setdefault((each.part, each.folders[1]), set()).add(each.folders[0])
        cases = all(len(above) == 1 for above in of_folder.values())
        return _folders_as_cases(places) if cases else _modality_folders(places)
    raise BadData(f"{next(iter(depths.values()))} lies too deep")


def _files_as_cases(places: Sequence[Place]) -> list[Belonging]:
    """Take each file for a case, and its folder for the class.

    Raises:
        BadData: several files look like those of one case.
    """
    first: dict[tuple[str, str], Place] = {}
    for each in places:
        other = first.setdefault((each.part, each.stem), each)
        if other.folders != each.folders:
            raise BadData(
                f"{_shown(other)} and {_shown(each)} may be two cases, or two pictures of one"
            )
    _check_last_words(places)
    return [
        Belonging((each.part, each.folders[0], each.stem), kind_of(each.path), each.path)
        for each in places
    ]


def _check_last_words(places: Sequence[Place]) -> None:
    """Refuse files of which several have the same ends: `a_clinic`, `a_derm`, `b_clinic`, ...

    Raises:
        BadData: names two files that look like those of one case.
    """
    ends: dict[tuple[object, ...], dict[str, Place]] = {}
    for each in places:
        found = LAST_WORD.fullmatch(each.stem)
        begin, end = (found[1], found[2]) if found else (each.stem, "")
        ends.setdefault((each.part, each.folders, begin), {})[end] = each
    seen: set[tuple[str, ...]] = set()
    for alike in ends.values():
        pairs = {*combinations(sorted(alike), 2)} if len(alike) <= MAX_SOURCES else set()
        if twice := pairs & seen:
            first, second = (_shown(alike[end]) for end in min(twice))
            raise BadData(f"{first} and {second} look like two files of one case")
        seen |= pairs


def _folders_as_cases(places: Sequence[Place]) -> list[Belonging]:
    """Take each folder below a class for a case, and its files for modalities.

    Raises:
        BadData: a case has several files and the names do not tell what they are.
    """
    alone = len({(each.part, each.folders) for each in places}) == len(places)  # one file each
    found = [
        Belonging(
            (each.part, each.folders[0], each.folders[1]),
            kind_of(each.path) if alone else _without_case(each),
            each.path,
        )
        for each in places
    ]
    n_cases = Counter(each.modality for each in found)
    for place, each in zip(places, found, strict=True):
        if not alone and n_cases[each.modality] == 1:
            raise BadData(f"{_shown(place)} has no counterpart in the folder of another case")
    if len(n_cases) > MAX_SOURCES:
        raise BadData(f"cases have files of {len(n_cases)} kinds, more than {MAX_SOURCES}")
    return found


def _without_case(place: Place) -> str:
    """Return the name of a file without that of its case: `case1/case1_derm.jpg` is `derm`."""
    name = mark_case(place.stem, {place.folders[-1]})[0].replace("{case}", " ")
    return "_".join(PIECE.findall(name)) or kind_of(place.path)


def _modality_folders(places: Sequence[Place]) -> list[Belonging]:
    """Take one kind of folder for modalities, the other for classes: a case has one class.

    Raises:
        BadData: either kind may be the classes.
    """
    of_stem: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for each in places:
        of_stem.setdefault((each.part, each.stem), []).append(each.folders)
    least = max(2, MIN_SHARE * len(of_stem))  # cases that lie in several modalities
    n_folders = [
        [len(set(level)) for level in zip(*each, strict=True)] for each in of_stem.values()
    ]
    for level in (0, 1):
        n_several = sum(each[1 - level] > 1 for each in n_folders)
        if n_several >= least and all(each[level] == 1 for each in n_folders):
            return [
                Belonging(
                    (each.part, each.folders[level], each.stem), each.folders[1 - level], each.path
                )
                for each in places
            ]
    above, below = (sorted({each.folders[level] for each in places}) for level in (0, 1))
    raise BadData(
        f"the classes may be the upper folders ({some_of(above)}) or the lower ({some_of(below)})"
    )


def _shown(place: Place) -> str:
    return repr("/".join(filter(None, (place.part, *place.folders, place.path.name))))
