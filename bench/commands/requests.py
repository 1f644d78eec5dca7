"""Turn the flags of a command into what it works with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadRequest

if TYPE_CHECKING:
    from bench.request import Request
    from bench.scores.significance import Claim
    from bench.store import StudyFolder
    from bench.study.session import Manner, Session


def session_of(
    *,
    config: Path | None,
    pairs: tuple[str, ...],
    jobs: int,
    quiet: bool,
    output: str,
    **flags: Any,
) -> Session:
    """Return the study that the flags of `run` and `plan` ask for."""
    manner = manner_of(flags)
    request = request_of(fields_of(**flags), config, pairs)
    from bench.study.session import Session

    return Session(request, jobs=jobs, quiet=quiet, output=output, manner=manner)


def manner_of(flags: dict[str, Any]) -> Manner:
    """Take out of the flags how runs are carried out; a command need not have all of them."""
    from bench.study.session import Manner, seconds_of

    limit = seconds_of(flags.pop("time_limit", None))
    settings = flags.pop("executor_config", None)
    rest = {name: flags.pop(name) for name in ("executor", "detach", "verbose") if name in flags}
    return Manner(settings=settings, time_limit=limit, **rest)


def fields_of(
    *,
    split: str | None,
    rates: str | None,
    level: str | None,
    mechanism: str | None,
    given: str | None,
    independent: bool,
    train_rate: float | None,
    every_case: bool,
    out: Path | None,
    **flags: Any,
) -> dict[str, Any]:
    """Turn the flags of a run into fields of a request; None or empty: not given."""
    gaps = {
        "rates": _rates(rates),
        "level": level,
        "mechanism": mechanism,
        "given": given,
        "independent": independent or None,
        "train_rate": train_rate,
        "every_case": every_case or None,
    }
    return flags | {
        "split_by": _split_by(split),
        "gaps": {key: value for key, value in gaps.items() if value is not None},
        "out": str(out) if out else None,
    }


def _split_by(text: str | None) -> str | None:
    """Read `leave-one-group-out=COLUMN`."""
    if text is None:
        return None
    scheme, _, column = text.partition("=")
    if scheme != "leave-one-group-out" or not column:
        raise BadRequest(f"--split wants leave-one-group-out=COLUMN, got {text!r}")
    return column


def _rates(text: str | None) -> list[float] | None:
    """Read `0,0.1,0.3`."""
    if text is None:
        return None
    try:
        return [float(piece) for piece in text.split(",")]
    except ValueError:
        raise BadRequest(f"--rates wants numbers such as 0,0.1,0.3, got {text!r}") from None


def request_of(flags: dict[str, Any], config: Path | None, pairs: tuple[str, ...]) -> Request:
    """Lay the flags over the configuration file."""
    from bench import request as requests

    flags = flags | {
        "data_root": str(flags["data_root"]) if flags["data_root"] else None,
        "include": [str(path) for path in flags["include"]],
        "override": flags["override"] or None,
    }

    file = requests.read_config(config) if config else {}
    asked = requests.layered(file, flags, pairs)
    if not asked.get("methods"):
        raise BadRequest("no method is asked for; name one with --method, see `bench list methods`")
    request: Request = requests.checked(requests.Request, asked, "run")
    if not (config and flags["protocols"] and request.gaps):
        return request
    from bench.commands.narrowing import narrowed

    request, said = narrowed(request, flags["gaps"])
    if said:
        print(said, file=sys.stderr)
    return request


def asked_of(
    usual_study: str, *, config: Path | None, pairs: tuple[str, ...], **flags: Any
) -> tuple[Request, dict[str, Any]]:
    """Build the request of a command whose study is named after it, and how it is carried out."""
    carried = {key: flags.pop(key) for key in ("jobs", "quiet", "output")}
    carried["manner"] = manner_of(flags)
    request = request_of(fields_of(**flags), config, pairs)
    if "study" not in request.model_fields_set:
        request = request.model_copy(update={"study": usual_study})
    return request, carried


def study_of(out: Path, name: str) -> StudyFolder:
    """Return the folder of a study.

    Raises:
        BadRequest: there is none.
    """
    from bench.store import StudyFolder

    if not (out / name).is_dir():
        raise BadRequest(f"no study is at {out / name}; `bench run` makes one, --out says where")
    return StudyFolder(out, name)


def claim_of(
    *, test: str, correction: Any, alpha: float, reference: str = "", **others: Any
) -> tuple[Claim, dict[str, Any]]:
    """Check what is asked to be tested; return it and the other flags."""
    from bench.scores.significance import Claim

    return Claim(test, reference, correction, alpha).checked(), others
