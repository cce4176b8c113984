"""A part of a model as a module: tried without memory, then loaded with every one of its weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Final

from latentcortex._arrays import listed
from latentcortex._loading import configuration
from latentcortex._loading.configuration import CLIP, Config, PartKind
from latentcortex._loading.weights import compare, header
from latentcortex.errors import InputError, first_line

logger = logging.getLogger(__name__)


def inspect(folder: Path, kind: PartKind) -> Config:
    """Check a part without loading it; return its configuration.

    Its module is made without memory for its weights, and the header of its file is compared with it.

    Raises
    ------
    InputError
        If the configuration, the file or one of its tensors is not what it must be.
    """
    config = configuration.read(folder, kind)
    _check_keys(folder / "config.json", kind)
    given = header(folder, kind)
    compare(folder, kind, given, empty(kind, config, folder / "config.json").state_dict())
    return config


def _check_keys(path: Path, kind: PartKind) -> None:
    """Refuse a configuration that leaves out what nothing else would tell, or whose keys its class does not have."""
    given = configuration.small_json(path)
    missing = [key for key in kind.needed if given.get(key) is None]
    if missing:
        raise InputError(f"{path} does not say {', '.join(missing)}, which a {kind.name} needs and no weight tells.")
    if kind.library == "diffusers":
        allowed = {*signature(_class(kind).__init__).parameters, *LEFT_BY_TRAINING}
        strange = [key for key in given if key not in allowed and not key.startswith("_")]
        if strange:
            raise InputError(f"{path} has {listed(strange)}, which a {kind.name} does not have; correct or remove it.")
        return
    tables = {"": given} if kind is not CLIP else {name: given.get(name) or {} for name in TOWERS}
    fields = set(_class(kind).config_class.__dataclass_fields__).union(*map(_fields, TOWERS.values()))
    for name, table in tables.items():
        strange = [key for key in table if key not in fields | _common() and not key.startswith("_")]
        if strange:
            where = f"{path}, {name}," if name else path
            logger.warning("%s has %s, which is not known and not read.", where, listed(strange))


LEFT_BY_TRAINING: Final = (
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
)
"""What averaging over the steps of training leaves among the settings of a denoiser; it changes nothing."""
LEGACY: Final = (
    "add_cross_attention",
    "cross_attention_hidden_size",
    "dense_act_fn",
    "dropout",
    "finetuning_task",
    "is_gated_act",
    "model_type",
    "output_past",
    "prefix",
    "pruned_heads",
    "scale_decoder_outputs",
    "sep_token_id",
    "task_specific_params",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "use_bfloat16",
)
"""What older versions of transformers wrote into every configuration, or what it derives from other keys."""


def _fields(name: str) -> set[str]:
    return set(getattr(import_module("transformers"), name).__dataclass_fields__)


def _common() -> set[str]:
    """Collect what transformers writes into configurations of every class: how it is saved, and how text is made."""
    return {*import_module("transformers").GenerationConfig().to_dict(), *LEGACY}


def empty(kind: PartKind, config: Config, path: Path | str) -> Any:
    """Make the module of a part without memory for its weights; raise `InputError` if its configuration makes none."""
    import torch
    from huggingface_hub.errors import StrictDataclassError

    with listening(), torch.device("meta"):
        try:
            return _made(kind, config)
        except (*IMPOSSIBLE, StrictDataclassError) as error:
            raise InputError(f"{path} makes no {kind.name}: {first_line(error)}.") from None


IMPOSSIBLE: Final = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the libraries raise, without a rule, where a configuration contradicts itself."""


def _class(kind: PartKind) -> Any:
    return getattr(import_module(kind.library), kind.name)


def _made(kind: PartKind, config: Config) -> Any:
    if kind.library == "diffusers":
        return _class(kind).from_config(config)
    return _class(kind)._from_config(_architecture(kind, config), attn_implementation="sdpa")


def _architecture(kind: PartKind, given: Config) -> Any:
    """Make the configuration of a class of transformers from those keys alone that say how it is built."""
    library = import_module("transformers")
    if kind is CLIP:
        parts = {name: _known(getattr(library, of), given[name]) for name, of in TOWERS.items()}
        return library.CLIPConfig(**{**_known(library.CLIPConfig, given), **parts})
    return _class(kind).config_class(**_known(_class(kind).config_class, given))


TOWERS: Final = {"text_config": "CLIPTextConfig", "vision_config": "CLIPVisionConfig"}


def _known(of: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the keys that belong to a class of configurations itself: every other one is for other tasks, or runs."""
    from transformers import PreTrainedConfig

    common = set(PreTrainedConfig.__dataclass_fields__)
    return {key: value for key, value in given.items() if key in of.__dataclass_fields__ and key not in common}


def load(folder: Path, kind: PartKind, *, dtype: Any) -> Any:
    """Load a part in evaluation mode and the precision `dtype`, from this folder alone.

    Raises
    ------
    InputError
        As `inspect` does, and if the library that loads it misses or leaves out a single tensor.
    """
    config = inspect(folder, kind)
    options: dict[str, Any] = {
        "local_files_only": True,
        "dtype": dtype,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    if kind.library == "diffusers":
        options["low_cpu_mem_usage"] = False
    else:
        options |= {"config": _architecture(kind, config), "attn_implementation": "sdpa"}
    from safetensors import SafetensorError

    with listening():
        try:
            module, outcome = _class(kind).from_pretrained(folder, **options)
        except (*IMPOSSIBLE, OSError, SafetensorError) as error:
            raise InputError(f"{folder} cannot be loaded: {first_line(error)}.") from None
    for key, problem in (("missing_keys", "lacks"), ("mismatched_keys", "has other shapes of"), ("error_msgs", "gave")):
        if outcome.get(key):
            raise InputError(f"{folder} {problem} {listed(sorted(map(str, outcome[key])), 3)} when it was loaded.")
    ready = _ready(module, dtype)
    wrong = [name for name, weight in ready.named_parameters() if not weight.isfinite().all()]
    if wrong:
        raise InputError(f"{folder} has weights that are not finite as {dtype}, among them {wrong[0]}.")
    return ready


def _ready(module: Any, dtype: Any) -> Any:
    import torch

    # Not every class of diffusers takes the precision that it is asked for when it is loaded whole; its own `to` warns
    # of nothing that it has here.
    return torch.nn.Module.to(module, dtype).eval().requires_grad_(False)


def check_device(device: str) -> None:
    """Raise `InputError` unless torch can compute on this device."""
    import torch

    try:
        torch.zeros(1, device=device).sum().item()
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:  # each device has its own
        why = first_line(error)[:150]
        raise InputError(f"device = {device!r} cannot be used on this machine: {why}. Use 'cpu', or another.") from None


def untrained(folder: Path, kind: PartKind, *, dtype: Any, seed: int) -> Any:
    """Make a part with random weights by this seed: the baseline of the same architecture."""
    import torch

    config = inspect(folder, kind)
    with listening(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _ready(_made(kind, config), dtype)


@dataclass(eq=False)
class _Kept(logging.Handler):
    """Keeps what a library warns of."""

    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(level=logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(" ".join(record.getMessage().split()))


@contextmanager
def listening() -> Iterator[None]:
    """Load without bars and without asking the network; what the libraries warn of goes into this package's log."""
    with ExitStack() as stack:
        kept = _Kept()
        for library in ("diffusers", "transformers"):
            stack.enter_context(_heard(import_module(f"{library}.utils.logging"), logging.getLogger(library), kept))
        # What the environment says, the hub's library has read when it was imported.
        hub: Any = import_module("huggingface_hub.constants")
        before, hub.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            hub.HF_HUB_OFFLINE = before
    for said in dict.fromkeys(kept.said):
        logger.warning("While a model was loaded: %s", said)


@contextmanager
def _heard(library: Any, speaker: logging.Logger, kept: logging.Handler) -> Iterator[None]:
    """Hear one library's warnings in place of its own handlers, and keep its bars back."""
    handlers, level, bars = list(speaker.handlers), speaker.level, library.is_progress_bar_enabled()
    speaker.handlers, speaker.level = [kept], logging.WARNING
    library.disable_progress_bar()
    try:
        yield
    finally:
        speaker.handlers, speaker.level = handlers, level
        if bars:
            library.enable_progress_bar()
