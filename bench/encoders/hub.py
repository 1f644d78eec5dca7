"""The Hugging Face hub: what of it is on this machine already, and whether it answers.

Its client asks again and again before it gives up, and asks even for files that it has: three
quarters of a minute for a machine without a network. So the cache is looked at first, and the hub
is asked once, with a short limit, before the client may take its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SECONDS = 10.0  # for one answer


def cached_file(repository: str, names: Sequence[str]) -> Path | None:
    """Return the first of these files that an earlier download left here; None: none did."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):  # a missing file that is known to be missing is no string
            return Path(found)
    return None


def check_reachable(repository: str) -> None:
    """Ask the hub for a repository, once.

    Raises:
        OSError: it is switched off by HF_HUB_OFFLINE, gives no answer, or has no such repository
            for this user.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set and the files are not in the cache")
    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json"), timeout=SECONDS)
    except EntryNotFoundError:
        return  # it answers; what files there are is the client's matter
    except Exception as error:  # of the transport below, which differs by version
        raise OSError(f"{type(error).__name__}: {error}") from error
