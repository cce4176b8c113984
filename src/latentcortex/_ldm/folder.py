"""The folder of a latent diffusion model: which parts it has, each checked by itself and against the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from latentcortex._loading import configuration, modules, tokens
from latentcortex._loading.configuration import Config, PartKind
from latentcortex.errors import InputError

PARTS: Final = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
SECOND: Final = ("text_encoder_2", "tokenizer_2")
"""The second pair, of Stable Diffusion XL and 3; a U-Net that has it is one of XL."""
THIRD: Final = ("text_encoder_3", "tokenizer_3")
"""T5, which takes more memory than all others and may be left out of Stable Diffusion 3."""
OF_SIZE: Final = 6
"""Numbers that a U-Net of Stable Diffusion XL is told beside pooled text: sizes and a corner."""


@dataclass(frozen=True)
class DiffusionFolder:
    """A model folder by its configuration.

    Parameters
    ----------
    folder : Path
    kinds : dict
        Parts that have weights -> their classes.
    """

    folder: Path
    kinds: Mapping[str, PartKind]

    @classmethod
    def read(cls, folder: Path) -> DiffusionFolder:
        """Find out what a folder is; raise `InputError` if a part of it is missing."""
        of_flow = (folder / "transformer").is_dir()
        second = of_flow or any((folder / part).is_dir() for part in SECOND)
        third = of_flow and any((folder / part).is_dir() for part in THIRD)
        denoiser = "transformer" if of_flow else "unet"
        wanted = [denoiser if part == "unet" else part for part in PARTS]
        wanted += [*(SECOND if second else ()), *(THIRD if third else ())]
        missing = [part for part in sorted(wanted) if not (folder / part).is_dir()]
        if missing:
            raise InputError(f"{folder} is not a latent diffusion model: no {', '.join(missing)} in it.")
        kinds = {"vae": configuration.AUTOENCODER}
        kinds[denoiser] = configuration.TRANSFORMER if of_flow else configuration.UNET
        kinds["text_encoder"] = configuration.CLIP_PROJECTED if of_flow else configuration.CLIP_TEXT
        kinds |= {"text_encoder_2": configuration.CLIP_PROJECTED} if second else {}
        kinds |= {"text_encoder_3": configuration.T5} if third else {}
        return cls(folder, kinds)

    @property
    def of_flow(self) -> bool:
        """Whether it is a flow-matching transformer."""
        return "transformer" in self.kinds

    @property
    def denoiser(self) -> str:
        """The part that denoises."""
        return "transformer" if self.of_flow else "unet"

    @property
    def texts(self) -> dict[str, PartKind]:
        """Endings of the names of tokenizers and text encoders -> classes of the latter."""
        return {part.removeprefix("text_encoder"): kind for part, kind in self.kinds.items() if part.startswith("text")}

    @cached_property
    def configs(self) -> dict[str, Config]:
        """The configurations of the parts."""
        return {part: configuration.read(self.folder / part, kind) for part, kind in self.kinds.items()}

    @cached_property
    def zeros(self) -> bool:
        """Whether the pipeline of the model takes zeros for the empty text, as XL's does unless its index says not."""
        if self.of_flow or "text_encoder_2" not in self.kinds:
            return False
        path = self.folder / "model_index.json"
        given = configuration.small_json(path).get("force_zeros_for_empty_prompt", True) if path.is_file() else True
        if not isinstance(given, bool):
            raise InputError(f"{path} has force_zeros_for_empty_prompt = {given!r}; expected true or false.")
        return given

    def tokenizer(self, which: str) -> Any:
        """Load the tokenizer that feeds the text encoder of this ending, tried on known words."""
        part = f"text_encoder{which}"
        return tokens.load(self.folder / f"tokenizer{which}", self.kinds[part], self.configs[part])

    def checked(self) -> DiffusionFolder:
        """Check every part, and that they fit together, without loading a weight; return it.

        Raises
        ------
        InputError
            Naming the first part that is damaged, of another model or not known.
        """
        for part, kind in self.kinds.items():
            modules.inspect(self.folder / part, kind)
        for which in self.texts:
            self.tokenizer(which)
        configuration.read_scheduler(self.folder / "scheduler", of_flow=self.of_flow)
        _ = self.zeros
        self._check_latents()
        self._check_texts()
        return self

    def _check_latents(self) -> None:
        """Raise `InputError` unless the denoiser takes what the autoencoder gives, and nothing besides."""
        vae, denoiser = self.configs["vae"], self.configs[self.denoiser]
        channels = vae["latent_channels"]
        if denoiser["in_channels"] != channels:
            raise InputError(
                f"{self.folder / self.denoiser} takes {denoiser['in_channels']} channels and the latent has "
                f"{channels}; a denoiser that is also shown a mask, a depth or an image is not known here."
            )
        if denoiser["out_channels"] != channels:
            raise InputError(
                f"{self.folder / self.denoiser} gives {denoiser['out_channels']} channels; the latent has {channels}."
            )
        config = configuration.small_json(self.folder / "vae" / "config.json")
        if (self.of_flow or "text_encoder_2" in self.kinds) and "scaling_factor" not in config:
            raise InputError(f"{self.folder / 'vae' / 'config.json'} does not say scaling_factor, the size of latents.")

    def _check_texts(self) -> None:
        """Raise `InputError` unless the denoiser takes what the text encoders give."""
        denoiser, path = self.configs[self.denoiser], self.folder / self.denoiser
        clips = [self.configs[f"text_encoder{which}"] for which in self.texts if which != "_3"]
        width, pooled = sum(one["hidden_size"] for one in clips), sum(one["projection_dim"] or 0 for one in clips)
        if self.of_flow:
            pairs = [("pooled_projection_dim", pooled)]
            pairs += [("joint_attention_dim", self.configs["text_encoder_3"]["d_model"])] if "_3" in self.texts else []
            if width > denoiser["joint_attention_dim"]:
                raise InputError(f"{path} takes text of width {denoiser['joint_attention_dim']}; CLIP's has {width}.")
        else:
            pairs = [("cross_attention_dim", width)]
            told = denoiser["addition_embed_type"] == "text_time"
            if told != (len(clips) > 1):
                is_told = "is told" if told else "is not told"
                raise InputError(f"{path} {is_told} pooled text, which two text encoders give; there are {len(clips)}.")
            if told:
                sizes = OF_SIZE * (denoiser["addition_time_embed_dim"] or 0)
                pairs += [("projection_class_embeddings_input_dim", sizes + (clips[-1]["projection_dim"] or 0))]
        for key, given in pairs:
            if denoiser[key] != given:
                raise InputError(f"{path} has {key} = {denoiser[key]}; the text encoders give {given}.")
