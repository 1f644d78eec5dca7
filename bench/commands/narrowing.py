"""A file's study with other protocols: gaps that mean nothing to these are left out, by name."""

from __future__ import annotations

from collections.abc import Collection

from bench.registry import registry_of
from bench.request import Request


def narrowed(request: Request, flags: Collection[str]) -> tuple[Request, str]:
    """Leave out the gaps that no protocol of a request takes, unless the flags name them.

    Args:
        request: a file's, with protocols that the flags chose.
        flags: names of the gaps that came as flags; planning refuses those that mean nothing.

    Returns:
        The request, and one line that names what was left out; empty if nothing was.

    Raises:
        UnknownName: a protocol is not known.
    """
    registry = registry_of(request.include, request.override)
    plugins = [registry.load("protocol", name) for name in request.protocols]
    taken = {field for each in plugins for field in each.config_class.model_fields}
    idle = [key for key in request.gaps if key not in taken and key not in flags]
    if not idle:
        return request, ""
    kept = {key: value for key, value in request.gaps.items() if key not in idle}
    names = ", ".join(request.protocols)
    said = f"note: {', '.join(idle)} of the file mean nothing to {names} and are left out"
    return request.model_copy(update={"gaps": kept}), said
