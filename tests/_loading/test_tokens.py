"""Tokenizers: a damaged one is named, and its window is that of its encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from _folders_of_models import Damage, refused, replaced

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from _models import linked  # noqa: E402

from latentcortex import _ldm  # noqa: E402


def without_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def tokens_changed(folder: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    replaced(folder / "tokenizer.json", json.dumps(content).encode())


def with_empty_vocabulary(folder: Path) -> None:
    tokens_changed(folder, lambda content: content["model"].update(vocab={}, merges=[]))


def with_other_letters(folder: Path) -> None:
    def change(content: dict) -> None:
        vocab = content["model"]["vocab"]
        content["model"]["vocab"] = {{"o": "é", "o</w>": "é</w>"}.get(token, token): i for token, i in vocab.items()}

    tokens_changed(folder, change)


def with_one_more_token(folder: Path) -> None:
    def change(content: dict) -> None:
        content["model"]["vocab"]["ö"] = len(content["model"]["vocab"])

    tokens_changed(folder, change)


def torn(folder: Path) -> None:
    replaced(folder / "tokenizer.json", (folder / "tokenizer.json").read_bytes()[:-30])


def settings(**values: object) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "tokenizer_config.json"
        replaced(path, json.dumps({**json.loads(path.read_text()), **values}).encode())

    return damage


def vocabulary_elsewhere(folder: Path) -> None:
    settings(vocab_file="/etc/passwd")(folder)


def running(folder: Path) -> None:
    settings(auto_map={"AutoTokenizer": ["evil.py", None]})(folder)


def of_another_class(folder: Path) -> None:
    settings(tokenizer_class="BertTokenizer")(folder)


def of_another_window(folder: Path) -> None:
    settings(model_max_length=12)(folder)


def pointed_vocabulary(folder: Path) -> None:
    replaced(folder / "tokenizer.json", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")


TOKENIZERS: dict[Damage, str] = {
    without_vocabulary: r"has no tokenizer\.json or vocab\.json and merges\.txt",
    with_empty_vocabulary: "does not give words back|cannot be loaded|tokens; the text encoder",
    with_other_letters: "does not give words back: it reads ",
    with_one_more_token: "has 55 tokens; the text encoder was made for 54",
    torn: "cannot be loaded as a CLIPTokenizer",
    pointed_vocabulary: "is a pointer of git-lfs",
    vocabulary_elsewhere: "has vocab_file, which reads files elsewhere",
    running: "has auto_map, with which code would be fetched or run",
    of_another_class: "is a BertTokenizer; the text encoder takes a CLIPTokenizer",
    of_another_window: "cuts texts at 12 tokens; the text encoder has 16 places",
}


@pytest.mark.parametrize("damage", TOKENIZERS, ids=lambda damage: damage.__name__)
def test_a_damaged_tokenizer_is_named(tiny_model: Path, tmp_path: Path, damage: Damage) -> None:
    folder = linked(tiny_model, tmp_path / "model")
    damage(folder / "tokenizer")
    refused(folder, f"/model/tokenizer.*({TOKENIZERS[damage]})")


def test_a_window_that_a_tokenizer_does_not_say_is_that_of_its_encoder(tiny_model: Path, tmp_path: Path) -> None:
    """Without one transformers takes 10^30 tokens, to which every caption would be padded."""
    folder = linked(tiny_model, tmp_path / "model")
    content = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text())
    del content["model_max_length"]
    replaced(folder / "tokenizer" / "tokenizer_config.json", json.dumps(content).encode())
    model, whole = _ldm.load(folder), _ldm.load(tiny_model)
    torch.testing.assert_close(
        _ldm.encode_captions(model, [("a cat",)]), _ldm.encode_captions(whole, [("a cat",)]), rtol=0, atol=0
    )


def test_a_tokenizer_of_t5_is_tried_too(models: dict[str, Path], tmp_path: Path) -> None:
    folder = linked(models["3"], tmp_path / "model")
    (folder / "tokenizer_3" / "tokenizer.json").unlink()
    refused(folder, r"/model/tokenizer_3 has no tokenizer\.json or spiece\.model")
