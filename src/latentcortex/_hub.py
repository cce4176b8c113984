"""Model folders: given as a path, or already fetched from the model hub. Nothing is fetched here."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from latentcortex import _files
from latentcortex._arrays import digest
from latentcortex.errors import InputError

_ID = re.compile(r"[\w.-]+/[\w.-]+")
PARTS: Final = (".safetensors", ".json", ".txt", ".model")
"""Suffixes of files of weights, settings and vocabularies."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def model_folder(model: str, revision: str = "") -> Path:
    """Find a model's folder.

    Parameters
    ----------
    model : str
        A folder, or the hub's name of a model, `owner/name`.
    revision : str
        The commit, 40 hex digits, of a model from the hub: a name alone can mean other weights tomorrow.

    Raises
    ------
    InputError
        If it is not there; for a model from the hub with the command that fetches it.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if not _ID.fullmatch(model):
        raise InputError(f"Model {model} is not there: give a folder, or a model of the hub as owner/name.")
    if not _COMMIT.fullmatch(revision):
        raise InputError(f"Model {model} needs `revision`, the commit of 40 hex digits; got {revision or 'none'}.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise InputError(
            f"Model {model} is not on this machine, and nothing is fetched unasked. Fetch it with: hf download {model} "
            f"--revision {revision} --exclude '*.bin' '*.ckpt' '*.msgpack'"
        ) from None


@lru_cache(maxsize=8)
def weights_hash(folder: Path) -> str:
    """Hash all files of weights, settings and vocabularies of a model folder, whatever the folder is called.

    What operating systems put beside them, such as `._config.json`, is none of them.
    """
    inside = {path.relative_to(folder): path for path in folder.rglob("*") if path.suffix in PARTS}
    kept = [name for name in inside if not any(_files.is_incidental(Path(part)) for part in name.parts)]
    return digest([(name.as_posix(), _files.sha256(inside[name])) for name in sorted(kept)])
