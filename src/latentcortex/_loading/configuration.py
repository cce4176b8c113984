"""What a part of a model says that it is: read, held against what is possible, and bounded. Nothing is built of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from latentcortex import _files
from latentcortex._shelf import unknown
from latentcortex.errors import InputError

Config = dict[str, Any]

MAX_BYTES: Final = 2**20
"""Of a file of settings; those of known models have some kilobytes."""
MAX_NUMBER: Final = 2**20
"""No count, width or number of tokens of a known model comes near."""
MAX_SIDE: Final = 4096
"""Pixels, or places of a latent, each way."""
MAX_BLOCKS: Final = 512
"""Blocks of a network, counted as if each stage were the longest; the largest known have some sixty."""
MAX_ENTRIES: Final = 256
"""Entries of a list; T5 has a hundred tokens of no meaning."""
MAX_DEPTH: Final = 6
"""Tables within tables."""

RUNNING: Final = (
    "auto_map",
    "compression_config",
    "custom_pipeline",
    "custom_pipelines",
    "distributed_config",
    "kernel_config",
    "quantization_config",
    "trust_remote_code",
    "use_kernels",
)
"""Settings with which a library would fetch or run something, or read the weights as something else."""
ATTENTION: Final = (None, True, False, "eager", "sdpa")
"""Ways to compute attention that need nothing beside torch; which one is used, the loader says."""


@dataclass(frozen=True)
class PartKind:
    """A class of parts, and what their configuration must say.

    Parameters
    ----------
    name : str
        Of the class.
    library : {"diffusers", "transformers"}
    says : dict
        The key that names the class -> the values that mean it.
    defaults : dict
        Values of the class for keys that are read here and may be left out.
    fixed : dict
        Keys -> the only values with which it is known how the part is used.
    counts : tuple of str
        Keys that multiply the number of blocks.
    needed : tuple of str
        Keys that change what the part computes and no shape of its weights, so that nothing tells where they are
        left out; every known folder has them.
    """

    name: str
    library: str
    says: Mapping[str, tuple[str, ...]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    counts: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        """The name of the file of weights, without its suffix."""
        return "diffusion_pytorch_model" if self.library == "diffusers" else "model"


TEXT_DEFAULTS: Final = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
VISION_DEFAULTS: Final = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
UNET: Final = PartKind(
    "UNet2DConditionModel",
    "diffusers",
    {"_class_name": ("UNet2DConditionModel",)},
    {
        "sample_size": None,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 1280,
        "layers_per_block": 2,
        "transformer_layers_per_block": 1,
        "addition_embed_type": None,
        "addition_time_embed_dim": None,
        "projection_class_embeddings_input_dim": None,
    },
    {
        "class_embed_type": (None,),
        "num_class_embeds": (None,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "time_cond_proj_dim": (None,),
        "addition_embed_type": (None, "text_time"),
        "attention_type": ("default",),
        "dual_cross_attention": (None, False),
    },
    ("layers_per_block", "transformer_layers_per_block"),
    ("attention_head_dim", "norm_num_groups"),
)
TRANSFORMER: Final = PartKind(
    "SD3Transformer2DModel",
    "diffusers",
    {"_class_name": ("SD3Transformer2DModel",)},
    {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 18,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 96,
    },
    {},
    ("num_layers",),
    ("attention_head_dim", "num_attention_heads"),
)
AUTOENCODER: Final = PartKind(
    "AutoencoderKL",
    "diffusers",
    {"_class_name": ("AutoencoderKL",)},
    {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (64,),
        "down_block_types": ("DownEncoderBlock2D",),
        "up_block_types": ("UpDecoderBlock2D",),
        "layers_per_block": 1,
        "scaling_factor": 0.18215,
        "shift_factor": None,
    },
    {"in_channels": (3,), "out_channels": (3,), "latents_mean": (None,), "latents_std": (None,)},
    ("layers_per_block",),
)
CLIP_TEXT: Final = PartKind(
    "CLIPTextModel",
    "transformers",
    {"model_type": ("clip_text_model",)},
    TEXT_DEFAULTS,
    {},
    ("num_hidden_layers",),
    ("hidden_act", "num_attention_heads"),
)
CLIP_PROJECTED: Final = PartKind(
    "CLIPTextModelWithProjection",
    "transformers",
    {"model_type": ("clip_text_model",)},
    TEXT_DEFAULTS,
    {},
    ("num_hidden_layers",),
    ("hidden_act", "num_attention_heads"),
)
CLIP: Final = PartKind("CLIPModel", "transformers", {"model_type": ("clip",)}, {"projection_dim": 512})
T5: Final = PartKind(
    "T5EncoderModel",
    "transformers",
    {"model_type": ("t5",)},
    {"vocab_size": 32128, "d_model": 512, "num_layers": 6, "num_heads": 8},
    {},
    ("num_layers",),
)
TOWERS: Final = {"text_config": TEXT_DEFAULTS, "vision_config": VISION_DEFAULTS}
"""Tables within the configuration of CLIP, and what they have unless they say so."""


def small_json(path: Path) -> Config:
    """Read a table of settings, JSON of a bounded size and with bounded numbers.

    Raises
    ------
    InputError
        If it is missing, larger than any such file, no JSON table, or has a number that no known model has.
    """
    _files.refuse_pointer(path)
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes; a table of settings has at most {MAX_BYTES}.")
    content = _files.read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a table of settings, {{...}}; got {type(content).__name__}.")
    _bounded(path, content)
    return content


def read(folder: Path, kind: PartKind) -> Config:
    """Read the configuration of one part, with the values of its class for what it leaves out.

    Raises
    ------
    InputError
        If it is missing or damaged, is of another class, or asks for what is not known here.
    """
    path = folder / "config.json"
    config = small_json(path)
    for key, means in kind.says.items():
        given = config.get(key, means[0])
        if given not in means:
            raise InputError(f"{folder} is a {given!s}; only {kind.name} is known there.")
    for key, values in kind.fixed.items():
        if key in config and config[key] not in values:
            raise InputError(
                f"{path} has {key} = {config[key]!r}; how such a {kind.name} is used is not known here, only "
                f"{' or '.join(map(repr, values))}."
            )
    full = {**kind.defaults, **config}
    _check_types(path, full, kind.defaults)
    for name, defaults in TOWERS.items() if kind is CLIP else ():
        full[name] = {**defaults, **(_table(path, name, config.get(name)) or {})}
        _check_types(path, full[name], defaults)
        _check_blocks(path, full[name], ("num_hidden_layers",))
    _check_stages(path, config)
    _check_blocks(path, full, kind.counts)
    return full


def _table(path: Path, name: str, value: Any) -> Config | None:
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{path} must have a table {name}; got {value!r}.")
    return value


def _bounded(path: Path, value: Any, key: str = "", depth: int = 0) -> None:
    """Refuse numbers, lists and depths that no model has, and settings that run something."""
    where = f"{path} has {key}" if key else f"{path}"
    if depth > MAX_DEPTH:
        raise InputError(f"{where} nested more than {MAX_DEPTH} deep; no table of settings is.")
    if key in RUNNING and value not in (None, False, [], {}):
        raise InputError(f"{where}, with which code would be fetched or run, or weights read otherwise; remove it.")
    if "attn_implementation" in key and value not in ATTENTION:
        raise InputError(f"{where} = {value!r}, which is fetched code; known are 'eager' and 'sdpa'. Remove it.")
    if isinstance(value, dict):
        for name, one in value.items():
            _bounded(path, one, str(name), depth + 1)
    elif isinstance(value, list):
        if len(value) > MAX_ENTRIES and key != "trained_betas":
            raise InputError(f"{where} with {len(value)} entries; expected at most {MAX_ENTRIES}.")
        for one in value:
            _bounded(path, one, key, depth + 1)
    elif isinstance(value, (int, float)) and key not in UNBOUNDED and not abs(value) <= _most(key):
        raise InputError(f"{where} = {value!r:.40}; a known model has at most {_most(key)}.")


SIDES: Final = (
    "sample_size",
    "image_size",
    "patch_size",
    "pos_embed_max_size",
    "max_position_embeddings",
    "size",
    "crop_size",
    "shortest_edge",
    "longest_edge",
    "height",
    "width",
)
"""Numbers that are lengths of images, or of texts."""
UNBOUNDED: Final = ("lambda_min_clipped", "model_max_length")
"""Numbers that some folders say as infinity, or as a power of ten that means none: neither is used."""


def _most(key: str) -> int:
    return MAX_SIDE if key in SIDES else MAX_NUMBER


def _check_types(path: Path, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse values of another type than those of the class."""
    for key, default in defaults.items():
        given = config[key]
        if isinstance(default, tuple):
            entry: type = type(default[0])
            right = isinstance(given, (list, tuple)) and bool(given) and all(type(one) is entry for one in given)
            right = right and (entry is not int or min(given) > 0)
        elif key in SEVERAL:
            numbers = list(_flat(given))
            right = bool(numbers) and all(type(one) is int and one > 0 for one in numbers)
        elif isinstance(default, float):
            right = type(given) in (int, float) and math.isfinite(given) and given > 0
        elif key in MISSING:
            right = given is None or type(given) in MISSING[key]
        else:
            right = (type(given) is int and given > 0) or (key == "eos_token_id" and type(given) is int)
        if not right:
            raise InputError(f"{path} has {key} = {given!r:.60}; expected what a {_said(key, default)} can be.")


SEVERAL: Final = ("layers_per_block", "transformer_layers_per_block")
"""Numbers that may be lists, one entry for each stage, or lists of these."""
MISSING: Final[dict[str, tuple[type, ...]]] = {
    "sample_size": (int,),
    "addition_embed_type": (str,),
    "addition_time_embed_dim": (int,),
    "projection_class_embeddings_input_dim": (int,),
    "shift_factor": (int, float),
    "projection_dim": (int,),
}
"""Values that may be null, and their types otherwise."""


def _said(key: str, default: Any) -> str:
    if isinstance(default, tuple):
        return f"list of {'widths' if isinstance(default[0], int) else 'names'}, one for each stage,"
    return "positive number" if isinstance(default, float) else f"positive whole number of {key}"


def _flat(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _flat(one)
    else:
        yield value


STAGES: Final = ("block_out_channels", "down_block_types", "up_block_types")
"""Lists with one entry for each stage."""


def _check_stages(path: Path, config: Mapping[str, Any]) -> None:
    """Let the stages be as many each way."""
    given = {key: len(config[key]) for key in STAGES if key in config}
    if len(set(given.values())) > 1:
        lengths = ", ".join(f"{key} has {n}" for key, n in given.items())
        raise InputError(f"{path} must have one entry for each stage in each list; {lengths}.")


def _check_blocks(path: Path, config: Mapping[str, Any], counts: tuple[str, ...]) -> None:
    """Bound how many blocks would be built."""
    lengths = [len(config[key]) for key in STAGES if key in config]
    n_blocks = math.prod([max(lengths, default=1), *(max(_flat(config[key])) for key in counts)])
    if n_blocks > MAX_BLOCKS:
        raise InputError(
            f"{path} asks for {n_blocks} blocks ({', '.join(counts)}); a known model has at most {MAX_BLOCKS}."
        )


SCHEDULERS: Final = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers that stand for the same: noise by betas over the timesteps of training."""
FLOW: Final = "FlowMatchEulerDiscreteScheduler"
MAX_TIMESTEPS: Final = 10_000
"""Of training; known models have 1000."""
BETAS: Final = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
"""What says how much noise each timestep has; every class has values of its own for what is left out."""
OTHERWISE: Final = ("thresholding", "clip_sample", "use_flow_sigmas", "use_dynamic_shifting", "invert_sigmas",
                    "stochastic_sampling")  # fmt: skip
"""Settings with which a step would depend on more than latent, prediction and timestep."""
GRIDS: Final = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "shift_terminal")
"""Settings with which a flow's grid would not follow from its shift."""


def read_scheduler(folder: Path, *, of_flow: bool) -> Config:
    """Read which noise a model was trained on.

    Returns
    -------
    dict
        Its configuration, in which every key that says how much noise a timestep has is there.

    Raises
    ------
    InputError
        If it is of an unknown class, leaves out what matters, or asks for what is not known here.
    """
    path = folder / "scheduler_config.json"
    config = small_json(path)
    name, allowed = config.get("_class_name"), (FLOW,) if of_flow else SCHEDULERS
    if name not in allowed:
        if of_flow:
            raise InputError(f"The scheduler of a transformer must be {FLOW}; got {name}. See {path}.")
        raise InputError(
            f"{path} is of the class {name}, whose noise is not known here; known are {', '.join(allowed)}."
        )
    for key in (*OTHERWISE, *(GRIDS if of_flow else ())):
        if config.get(key):
            raise InputError(f"The scheduler has {key}, with which no trajectory is known here. See {path}.")
    needed = ("num_train_timesteps", "shift") if of_flow else BETAS
    missing = [key for key in needed if key not in config]
    if missing:
        raise InputError(f"{path} does not say {', '.join(missing)}, without which the noise is not known.")
    timesteps = config["num_train_timesteps"]
    if type(timesteps) is not int or not 1 < timesteps <= MAX_TIMESTEPS:
        raise InputError(f"{path} has num_train_timesteps = {timesteps!r:.40}; expected 2 to {MAX_TIMESTEPS}.")
    _check_flow(path, config) if of_flow else _check_betas(path, config, timesteps)
    return config


def _check_flow(path: Path, config: Config) -> None:
    shift = config["shift"]
    if type(shift) not in (int, float) or not 0 < shift <= 100:
        raise InputError(f"{path} has shift = {shift!r}; expected a number above 0, at most 100.")


def _check_betas(path: Path, config: Config, timesteps: int) -> None:
    choices = {
        "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
        "prediction_type": ("epsilon", "sample", "v_prediction"),
    }
    for key, words in choices.items():
        if config.get(key, words[0]) not in words:
            raise unknown(f"{key} in {path}:", str(config[key]), words)
    zero = config.get("rescale_betas_zero_snr", False)
    if not isinstance(zero, bool):  # the word "false" would be taken for true, and change every beta
        raise InputError(f"{path} has rescale_betas_zero_snr = {zero!r:.40}; expected true or false.")
    trained = config.get("trained_betas")
    betas = [config["beta_start"], config["beta_end"]] if trained is None else trained
    if trained is not None and (not isinstance(trained, list) or len(trained) != timesteps):
        raise InputError(f"{path} must have as many trained_betas as timesteps of training, {timesteps}.")
    if not all(type(beta) in (int, float) and 0 < beta < 1 for beta in betas) or betas[0] > betas[-1]:
        raise InputError(f"{path} must have betas between 0 and 1 that grow; got {betas[0]!r} to {betas[-1]!r}.")
