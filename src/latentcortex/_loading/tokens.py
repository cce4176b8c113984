"""Tokenizers: loaded from their folder alone, tried on known words, and held against the text encoder they feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from latentcortex import _files
from latentcortex._arrays import listed
from latentcortex._loading.configuration import (
    CLIP,
    CLIP_PROJECTED,
    CLIP_TEXT,
    T5,
    Config,
    PartKind,
    small_json,
)
from latentcortex._loading.modules import listening
from latentcortex.errors import InputError, first_line

CLASSES: Final = {
    **dict.fromkeys((CLIP.name, CLIP_TEXT.name, CLIP_PROJECTED.name), "CLIPTokenizer"),
    T5.name: "T5Tokenizer",
}
"""Text encoders, and the tokenizers that feed them."""
VOCABULARIES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "CLIPTokenizer": (("tokenizer.json",), ("vocab.json", "merges.txt")),
    "T5Tokenizer": (("tokenizer.json",), ("spiece.model",)),
}
"""The files that a vocabulary lies in: without any, transformers makes a tokenizer that knows no word."""
MAX_BYTES: Final = 2**26
DAMAGED: Final = (AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
SPARE: Final = 128
"""Rows of T5's table of words that no word has, to make it a multiple of so many."""
LEGACY_END: Final = 2
"""The `eos_token_id` of CLIP models from before it meant anything: transformers takes the largest token there."""
WORDS: Final = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog")
"""Every letter; words that go in must come out."""


def load(folder: Path, kind: PartKind, encoder: Config) -> Any:
    """Load the tokenizer of a text encoder and try it.

    Parameters
    ----------
    folder : Path
    kind : PartKind
        Of the text encoder.
    encoder : dict
        Its configuration.

    Raises
    ------
    InputError
        If a file is missing or damaged, words that go in do not come out, or the encoder has not its vocabulary,
        its window or its end.
    """
    name = CLASSES[kind.name]
    _check_files(folder, name)
    with listening():
        try:
            # The class reads these files alone; what they are called is not taken from their settings.
            tokenizer = getattr(import_module("transformers"), name).from_pretrained(folder, local_files_only=True)
            rows = tokenizer(list(WORDS), verbose=False).input_ids
            back = [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in rows]
        except Exception as error:  # the tokenizers library raises this very class
            if type(error) is Exception or isinstance(error, DAMAGED):
                raise InputError(f"{folder} cannot be loaded as a {name}: {first_line(error)}.") from None
            raise
    wrong = [f"{word!r} as {found!r}" for word, found in zip(WORDS, back, strict=True) if word != found]
    if wrong:
        raise InputError(f"{folder} does not give words back: it reads {listed(wrong, 3)}. Fetch the tokenizer again.")
    if any(ids[-1] != tokenizer.eos_token_id or (kind is not T5 and ids[0] != tokenizer.bos_token_id) for ids in rows):
        raise InputError(f"{folder} does not mark where a text begins and ends; fetch the tokenizer again.")
    _check_fit(folder, tokenizer, encoder, clip=kind is not T5)
    return tokenizer


def _check_files(folder: Path, name: str) -> None:
    complete = [files for files in VOCABULARIES[name] if all((folder / one).is_file() for one in files)]
    if not complete:
        wanted = " or ".join(" and ".join(files) for files in VOCABULARIES[name])
        raise InputError(f"{folder} has no {wanted}: a tokenizer without a vocabulary reads every text as the same.")
    for path in (folder / one for one in complete[0]):
        _files.refuse_pointer(path)
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes; a vocabulary has at most {MAX_BYTES}.")
    for path in (folder / "tokenizer_config.json", folder / "special_tokens_map.json", folder / "added_tokens.json"):
        settings = small_json(path) if path.is_file() else {}
        given = str(settings.get("tokenizer_class") or name)
        if given.removesuffix("Fast") != name:
            raise InputError(f"{folder} is a {given}; the text encoder takes a {name}.")
        # Paths in a settings file would be read in place of the files beside it.
        elsewhere = [key for key in ("vocab_file", "merges_file", "tokenizer_file") if settings.get(key)]
        if elsewhere:
            raise InputError(f"{path} has {listed(elsewhere)}, which reads files elsewhere; remove it.")


def _check_fit(folder: Path, tokenizer: Any, encoder: Mapping[str, Any], *, clip: bool) -> None:
    """Raise `InputError` unless the text encoder has a row for every token, and the same window and end."""
    n_tokens, rows = len(tokenizer), int(encoder["vocab_size"])
    if n_tokens > rows or n_tokens < rows - (0 if clip else SPARE) or max(tokenizer.get_vocab().values()) >= rows:
        raise InputError(f"{folder} has {n_tokens} tokens; the text encoder was made for {rows}.")
    if not clip:
        return
    window, places = tokenizer.model_max_length, encoder["max_position_embeddings"]
    if window < 3 or (window != places and window < MAX_WINDOW):
        raise InputError(f"{folder} cuts texts at {window} tokens; the text encoder has {places} places.")
    tokenizer.model_max_length = places
    end = encoder["eos_token_id"]
    if end not in (tokenizer.eos_token_id, LEGACY_END):
        raise InputError(f"{folder} ends texts with token {tokenizer.eos_token_id}; the text encoder looks for {end}.")


MAX_WINDOW: Final = 10**6
"""From here on a window means that none was given."""


def told(tokenizer: Any, captions: Sequence[tuple[str, ...]], window: int) -> str:
    """Say how many captions a text window of so many tokens cuts, with the longest; empty if it cuts none."""
    texts = list(dict.fromkeys(text for several in captions for text in several))
    if not texts:
        return ""
    lengths = {
        text: len(ids)
        for text, ids in zip(texts, tokenizer(texts, truncation=False, verbose=False).input_ids, strict=True)
    }
    n_cut = sum(lengths[text] > window for several in captions for text in several)
    if not n_cut:
        return ""
    longest = max(texts, key=lengths.__getitem__)
    return (
        f"{n_cut} of {sum(map(len, captions))} captions are longer than the model's window of {window} tokens, and "
        f"what lies beyond is not read, for example of {longest[:50]!r} ({lengths[longest]} tokens)."
    )
