"""What is written from the types of the settings: a file with every key, tables of keys, a JSON Schema for editors."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo

from latentcortex._shelf.picking import FromShelf, picked_by
from latentcortex._shelf.wording import allowed, annotation_of
from latentcortex.study.schema import Settings

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
WIDTH: Final = 118
"""Of a line of the file with every key."""
EXAMPLES: Final[dict[str, Any]] = {
    "dataset.folder.root": "my-data",
    "dataset.folder.template": "fsaverage5",
    "dataset.folder.mask": "mask.nii.gz",
    "dataset.folder.reference": "MNI152NLin2009cAsym",
    "dataset.folder.transform": "fullhead",
    "dataset.folder.background": "T1w.nii.gz",
    "extractor.ldm.model": "phantom",
    "extractor.ldm.layers": ["down0", "mid", "up0"],
    "extractor.ldm.bands": ["z", "c"],
    "extractor.clip.bands": ["clip_part-vision", "clip_layer-12"],
    "extractor.pixels.bands": ["pixels", "contrast", "gabor", "colour"],
    "extractor.categories.words": ["cat", "fire hydrant"],
    "estimator.banded_ridge.alphas": [0.01, 1, 100],
    "estimator.banded_ridge.mixtures": "equal",
    "estimator.himalaya.alphas": [0.01, 1, 100],
    "estimator.himalaya.mixtures": "dirichlet",
    "estimator.ridge.alphas": [0.01, 1, 100],
    "report.atlas": "phantom",
    "decoding.rois": "takagi2023",
    "decoding.bands": ["z", "c"],
    "evaluation.n_images": 40,
    "evaluation.category": "scene",
    "run.out": "OUT",
}
"""Values in the file with every key, for keys whose default would say little."""
PICKED: Final = {"dataset": "phantom", "extractor": "ldm", "estimator": "banded_ridge", "reconstructor": "ldm"}
"""What that file, a study of the phantom, picks from each shelf."""
ASIDE: Final = ("reconstructor.ldm.model", "reconstructor.ldm.revision", "reconstructor.ldm.n_steps")
"""Keys that it leaves to what another section says."""
MAX_SHOWN: Final = 8
"""Entries of a default that is a list, at most, which are listed."""


def json_schema() -> dict[str, Any]:
    """Describe a study file to editors and checkers, as JSON Schema."""
    return {"$schema": DRAFT, "title": "A study of latentcortex", **_tidied(Settings.model_json_schema())}


def _tidied(schema: Any) -> Any:
    """Leave out the titles that are only the keys once more, and write each description in one line."""
    if isinstance(schema, list):
        return [_tidied(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: entry for key, entry in schema.items() if key != "title" or not isinstance(entry, str)}
    lines = {"description": " ".join(kept["description"].split())} if isinstance(kept.get("description"), str) else {}
    return {key: _tidied(entry) for key, entry in (kept | lines).items()}


def schema_text() -> str:
    """Write the JSON Schema as it stands in the documentation."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def every_key() -> str:
    """Write a study file with every key, what it means, and its default where it has one."""
    lines = [
        "#:schema ../docs/study.schema.json",
        "# Every key that a study file can have, with its default where it has one. Keys in a comment are of another",
        "# class, or have a default that no file can say; `seed` of a class is that of [run] unless it is given.",
        "# Written by `latentcortex schema --toml`.",
    ]
    for section, field in Settings.model_fields.items():
        lines += ["", f"[{section}]", *_comment(_about(field))]
        shelf = picked_by(field)
        if shelf is None:
            lines += _keys_of_section(section, field)
            continue
        for name in sorted(shelf.shelf.where, key=lambda name: name != PICKED.get(section)):
            lines += _keys_of_class(section, name, shelf)
    return "\n".join(lines) + "\n"


def _keys_of_section(section: str, field: FieldInfo) -> Iterator[str]:
    """Write the keys of a section that always has the same, each below what it means."""
    for key, of_key in _fields(field.annotation):
        yield from _comment(_meaning(of_key))
        picked = picked_by(of_key)
        default = picked.unnamed[0] if picked else of_key.default
        yield f"{key} = {toml(EXAMPLES.get(f'{section}.{key}', default))}"


def _keys_of_class(section: str, name: str, shelf: FromShelf) -> Iterator[str]:
    """Write the keys of a class; in comments unless it is the one that this file picks."""
    model, picked = shelf.model(name), name == PICKED.get(section)
    yield from ["", *_comment(f'{"With" if picked else "Or, with"} name = "{name}": {model.__doc__ or ""}')]
    if picked:
        yield f"name = {toml(name)}"
    for key, field in _fields(model):
        place = f"{section}.{name}.{key}"
        value = EXAMPLES.get(place, None if field.is_required() else field.default)
        says_little = field.default in (None, []) or _is_long(field.default) or field.is_required()
        of_run = key == "seed" and section != "dataset"
        aside = not picked or place in ASIDE or says_little or of_run
        yield from _comment(_meaning(field))
        yield f"{'# ' if aside else ''}{key} = {toml(value if value is not None else '')}"


def tables() -> str:
    """Write what every key may be and means, as tables in Markdown."""
    lines = [
        "# The keys of a study file",
        "",
        "Written from the types of the settings by `latentcortex schema --markdown`. A file is checked whole before "
        "anything is computed, and every mistake in it is told at once. `study.schema.json` beside this page says the "
        "same to an editor: put `#:schema PATH/study.schema.json` in the first line of a study. "
        "[every_key.toml](../examples/every_key.toml) has all keys in one file.",
    ]
    for section, field in Settings.model_fields.items():
        lines += ["", f"## [{section}]", "", _about(field)]
        shelf = picked_by(field)
        if shelf is None:
            lines += _table(field.annotation)
            continue
        for name in sorted(shelf.shelf.where):
            model = shelf.model(name)
            lines += ["", f'### name = "{name}"', "", model.__doc__ or "", *_table(model)]
    return "\n".join(lines) + "\n"


def _table(model: Any) -> Iterator[str]:
    """Write a row for each key."""
    yield from ("", "| key | may be | default | what it means |", "|---|---|---|---|")
    for key, field in _fields(model):
        picked = picked_by(field)
        default = "none, it must be given" if field.is_required() else _default(field.default)
        if picked is not None:
            default = f"`{toml(picked.unnamed[0])}`"
        cells = f"`{key}`", allowed(annotation_of(field)), default, field.description or ""
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    """Write a default as the tables show it."""
    if value is None or value in ("", [], ()):
        return ""
    if _is_long(value):
        return f"{len(value)} from {value[0]:g} to {value[-1]:g}"
    return f"`{toml(value)}`"


def _fields(model: Any) -> list[tuple[str, FieldInfo]]:
    """List the keys of a model, without the name that picks it."""
    return [(key, field) for key, field in model.model_fields.items() if key != "name"]


def _about(field: FieldInfo) -> str:
    """Say what a section is for."""
    return " ".join((field.description or getattr(field.annotation, "__doc__", None) or "").split())


def _meaning(field: FieldInfo) -> str:
    """Say what a key means, and what it may be."""
    return f"{field.description or ''} ({allowed(annotation_of(field))})"


def _is_long(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > MAX_SHOWN


def _comment(text: str) -> list[str]:
    words = " ".join(text.split())
    return textwrap.wrap(words, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def toml(value: Any) -> str:
    """Write a value as TOML.

    Examples
    --------
    >>> toml({"z": ["early"], "n": 3, "fast": True})
    '{z = ["early"], n = 3, fast = true}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
