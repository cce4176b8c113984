"""The tensors in a part's file of weights, by its header alone, against those that the part is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from latentcortex import _files
from latentcortex._arrays import listed
from latentcortex._loading.configuration import PartKind, small_json
from latentcortex.errors import InputError, first_line

MAX_HEADER: Final = 2**23
"""Bytes; the headers of the largest known parts have some hundred thousand."""
FLOATS: Final = ("F16", "BF16", "F32", "F64")
"""Types of weights that are read as numbers; anything else is packed and means something only to its own reader."""
BUFFERS: Final = re.compile(r"(.*\.)?embeddings\.position_ids")
"""Counted places, 0, 1, 2, ..., which older versions of transformers kept beside the weights: every module makes them
itself, and what a file says of them is not read."""
OLD_NAMES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "CLIPTextModel": ((r"^text_model\.", ""),),
    "AutoencoderKL": (
        (r"(attentions\.\d+)\.query\.", r"\1.to_q."),
        (r"(attentions\.\d+)\.key\.", r"\1.to_k."),
        (r"(attentions\.\d+)\.value\.", r"\1.to_v."),
        (r"(attentions\.\d+)\.proj_attn\.", r"\1.to_out.0."),
    ),
    # One table of words, which T5 keeps under either name.
    "T5EncoderModel": ((r"^encoder\.embed_tokens\.", "shared."),),
}
"""Names of a class's tensors in older files -> those of today; the libraries rename them in the same way."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class TensorHeader:
    """What a file of weights says of its tensors.

    Parameters
    ----------
    shapes : dict
        Name -> shape.
    types : dict
        Name -> type, as safetensors names them.
    """

    shapes: Shapes
    types: Mapping[str, str]


def header(folder: Path, kind: PartKind) -> TensorHeader:
    """Read the headers of a part's weights, in one file or in several.

    Raises
    ------
    InputError
        If a file is missing, is a pointer, is cut or damaged, or names a file elsewhere.
    """
    shapes: Shapes = {}
    types: dict[str, str] = {}
    for path in _files_of(folder, kind):
        for name, (shape, kept) in _header(path).items():
            if name in shapes:
                raise InputError(f"{path} has {name}, which another file of {folder} has, too; expected each once.")
            shapes[name], types[name] = shape, kept
    return TensorHeader(shapes, types)


def _files_of(folder: Path, kind: PartKind) -> list[Path]:
    whole, index = folder / f"{kind.weights}.safetensors", folder / f"{kind.weights}.safetensors.index.json"
    if (folder / "adapter_config.json").exists():
        raise InputError(f"{folder} is an adapter (adapter_config.json) to weights elsewhere; merge it into a model.")
    if whole.is_file():
        return [whole]
    if not index.is_file():
        others = sorted(path.name for path in folder.glob("*.safetensors"))
        others_there = f"; it has {listed(others)}" if others else ""
        raise InputError(f"{folder} cannot be loaded: no file named {whole.name} in it{others_there}.")
    named = small_json(index).get("weight_map")
    names = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
    if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise InputError(f"{index} must name files of weights beside it in weight_map; got {listed(names) or 'none'}.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} lacks {listed(missing)}, which {index.name} names.")
    return [folder / name for name in names]


def _header(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Read one header: name -> shape and type; safetensors checks that it covers the file to its last byte."""
    _files.refuse_pointer(path)
    with path.open("rb") as handle:
        n_bytes = int.from_bytes(handle.read(8), "little")
    if not 2 <= n_bytes <= min(MAX_HEADER, path.stat().st_size):
        raise InputError(f"{path} cannot be loaded: its first bytes are not the length of a header of safetensors.")
    try:
        with safe_open(path, framework="numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
            return {name: (tuple(one.get_shape()), str(one.get_dtype())) for name, one in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be loaded: {first_line(error)}. Fetch it again.") from None


def compare(folder: Path, kind: PartKind, given: TensorHeader, expected: Mapping[str, Any]) -> None:
    """Raise `InputError` unless a file has every tensor that a part is made of, of its shape, and none besides.

    Parameters
    ----------
    folder : Path
    kind : PartKind
    given : TensorHeader
    expected : mapping
        The part's own state: name -> anything with a shape.
    """
    shapes = {_today(kind, name): (name, shape) for name, shape in given.shapes.items() if not BUFFERS.fullmatch(name)}
    wanted = {_today(kind, name): tuple(one.shape) for name, one in expected.items() if not BUFFERS.fullmatch(name)}
    missing = sorted(wanted.keys() - shapes.keys())
    if missing:  # they would be drawn at random, or be whatever was in memory
        raise InputError(f"{folder} lacks {len(missing)} weights of its {kind.name}, among them {missing[0]}.")
    strange = sorted(shapes.keys() - wanted.keys())
    if strange:
        raise InputError(
            f"{folder} has {len(strange)} weights that a {kind.name} of its configuration does not have, among them "
            f"{shapes[strange[0]][0]}; they would not be used."
        )
    for name in sorted(wanted):
        own, shape = shapes[name]
        if shape != wanted[name]:
            raise InputError(f"{folder} has {own} of shape {shape}; its configuration makes it {wanted[name]}.")
        if given.types[own] not in FLOATS:
            raise InputError(f"{folder} has {own} as {given.types[own]}; only weights as {listed(FLOATS)} are read.")


def _today(kind: PartKind, name: str) -> str:
    for old, new in OLD_NAMES.get(kind.name, ()):
        name = re.sub(old, new, name)
    return name
