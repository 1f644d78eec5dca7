"""The Hugging Face hub: what of it is on this machine already, and whether it answers.

Its client asks again and again before it gives up, and asks even for files that it has: three
quarters of a minute for a machine without a network. So the cache is looked at first, and the hub
is asked once, with a short limit, before the client may take its time.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

SECONDS = 10.0  # for one answer
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # of a transformers model, best first
SETTINGS = ("*.json", "*.txt", "*.model")  # configuration, vocabulary and tokenizer


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
        raise OSError(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error


def model_folder(name: str) -> Path:
    """Return the folder of a transformers model: a local one, a cached one, or a new download.

    Args:
        name: path of a folder, or a repository of the hub.

    Raises:
        OSError: there is no such folder, or the model is not here and cannot be had.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise OSError("there is no such folder")
    config = cached_file(name, ("config.json",))
    if config is not None and any(list(config.parent.glob(each)) for each in WEIGHTS):
        return config.parent
    check_reachable(name)
    return _download(name)


def _download(repository: str) -> Path:
    """Fetch weights, configuration and tokenizer, and nothing else of a repository."""
    from huggingface_hub import HfApi, snapshot_download

    names = [name for name in HfApi().list_repo_files(repository) if "/" not in name]
    kinds = [kind for kind in WEIGHTS if fnmatch.filter(names, kind)][:1]  # the first is enough
    return Path(snapshot_download(repository, allow_patterns=[*kinds, *SETTINGS]))


def files_of(folder: Path) -> list[Path]:
    """List the files of a model that its features depend on."""
    kinds = [kind for kind in WEIGHTS if list(folder.glob(kind))][:1]
    return sorted(path for kind in (*kinds, *SETTINGS) for path in folder.glob(kind))


def checksum(path: Path) -> str:
    """Return a hash of a file's content; the hub's cache has it as the name of the file.

    Raises:
        OSError: the file cannot be read.
    """
    target = path.resolve()
    if target.parent.name == "blobs":
        return target.name
    status = target.stat()
    return _hash_of_file(target, status.st_size, status.st_mtime_ns)


@cache
def _hash_of_file(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file once per process and state of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
