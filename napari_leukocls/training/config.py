"""TrainConfig and its presets."""

from __future__ import annotations

import difflib
import tomllib
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from napari_leukocls.errors import ArgumentError
from napari_leukocls.types import LEAST_UM_PER_PX, MOST_UM_PER_PX

CONFIG_VERSION: Literal[1] = 1

Share = Annotated[float, Field(ge=0, lt=1)]

Strength = Annotated[float, Field(ge=0, le=1)]

Channels = tuple[float, float, float]


def _as_tuple(value: Any) -> Any:
    """One text as a tuple of it; an empty text as none."""
    return ((value,) if value else ()) if isinstance(value, str) else value


#: Entries of a preset that are no settings.
_NO_SETTINGS = frozenset({"summary", "guesses", "by_architecture"})
PRESETS_FILE = Path(__file__).parent.parent / "data" / "training_presets.toml"


class TrainConfig(BaseModel):
    """Settings of one training; the same for window, command line and API.

    Every field is an option of ``leukocls train``; the description is its help. ``data`` and ``from_model``
    are DATA and ``--from`` there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    version: Literal[1] = CONFIG_VERSION
    preset: str = Field(default="", description="Preset that the settings started from.")

    # What is trained, on what, and where it goes.
    data: str = Field(default="", description="Folder of class folders, or a CSV with columns file,class.")
    corrections: str = Field(
        default="", description="Also train on a review store's corrections: its address, or 'default'."
    )
    out: str = Field(min_length=1, description="Folder of the model, the checkpoint and the records.")
    name: str = Field(
        default="",
        pattern=r"^$|^[A-Za-z0-9][\w.+-]*$",
        description="Name of the model; by default of the start and preset.",
    )
    arch: str = Field(default="", description="Architecture: a registered name or a timm classifier's.")
    arguments: dict[str, Any] = Field(default={}, description="Arguments of the architecture, as JSON.")
    from_model: str = Field(default="", description="Model to start from: a name or a folder.")
    pretrained: bool = Field(
        default=True, description="Start a new architecture from timm's ImageNet weights, if timm has them."
    )
    weights: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        default=(),
        description="Start from this file of weights (safetensors, or a torch file with tensors alone); its head is "
        "left out. BRANCH=FILE fills one branch of a network with several; give one for each.",
    )

    # Crops.
    um_per_px: float | None = Field(
        default=None,
        gt=LEAST_UM_PER_PX,
        lt=MOST_UM_PER_PX,
        description="Scale of the crops where the table does not say it.",
    )
    ready_crops: bool = Field(
        default=False,
        description="Take the images whole: only resize them; the cell is not outlined. The model then takes whole "
        "images everywhere.",
    )
    central_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="With --ready-crops: share of each side that is kept, in the middle.",
    )
    side_px: int | None = Field(default=None, ge=16, le=1024, description="Side of the network's crops.")
    side_um: float | None = Field(
        default=None, gt=1, lt=200, description="Side of the crop on the slide, micrometres."
    )
    margin_um: float = Field(
        default=1.0,
        ge=0,
        le=50,
        description="Width around the cell's outline that is kept when neighbours are painted out, micrometres.",
    )
    keep_surroundings: bool = Field(default=False, description="Do not paint neighbours out.")
    white: float | None = Field(
        default=235.0, ge=1, le=255, description="Grey level that empty glass is brought to."
    )
    stain_normalisation: Literal["none", "reinhard", "macenko"] = Field(
        default="none", description="Bring crops to one stain, in training and in analysis."
    )
    mean: Channels | None = Field(
        default=None, description="Mean per channel of pixels scaled to 0-1; by default the architecture's."
    )
    std: Channels | None = Field(
        default=None,
        description="Standard deviation per channel of pixels scaled to 0-1; by default the architecture's.",
    )

    # Split.
    leave_out: tuple[str, ...] = Field(default=(), description="Classes that are not trained on.")
    group_by: Literal["auto", "patient", "slide", "none"] = Field(
        default="auto", description="What stays on one side; auto is the patient, else the slide."
    )
    allow_unknown_patients: bool = Field(
        default=False,
        description="With --group-by patient: accept crops without a patient; the card will say so.",
    )
    allow_leakage: bool = Field(
        default=False, description="Accept a patient on both sides of the split; the card will say so."
    )
    near_duplicates: bool = Field(default=True, description="Keep crops that look the same on one side.")
    validation_share: Share = 0.15
    test_share: Share = 0.15
    protocol: Literal["single", "kfold", "monte-carlo"] = Field(
        default="single", description="Also measure over folds or repeated shuffles before the last run."
    )
    folds: int = Field(default=5, ge=2, le=100)
    repeats: int = Field(default=100, ge=2, le=10_000)

    # Optimisation.
    epochs: int = Field(default=20, ge=1, le=100_000)
    minutes: float | None = Field(
        default=None, gt=0, description="Minutes after which the training stops and keeps its best weights."
    )
    batch_size: int = Field(default=32, ge=2, le=65_536)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0, description="Largest learning rate.")
    weight_decay: float = Field(default=1e-4, ge=0)
    decay_all: bool = Field(
        default=False, description="Weight decay also of biases and normalisations, as torch does by itself."
    )
    momentum: Strength = Field(default=0.9, description="Momentum of sgd.")
    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    warmup_epochs: float = Field(
        default=1.0,
        ge=0,
        description="Epochs of rising learning rate, for the schedules cosine and constant.",
    )
    clip: float = Field(default=1.0, ge=0, description="Largest norm of the gradient; 0 does not clip.")
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    label_smoothing: Share = 0.0
    focal_gamma: float = Field(default=2.0, ge=0, le=10)
    class_weights: Literal["none", "balanced", "sqrt", "effective"] = Field(
        default="none", description="Weights of rare classes in the loss (alpha of the focal loss)."
    )
    sampler: Literal["shuffle", "balanced"] = Field(
        default="shuffle", description="balanced draws every class as often."
    )
    dropout: Share | None = Field(default=None, description="By default the architecture's own.")
    freeze: Literal["none", "head", "progressive"] = Field(
        default="none", description="Train everything, the head alone, or stage by stage from the head on."
    )
    unfreeze_every: int = Field(default=2, ge=1, description="Epochs between two stages of progressive.")
    keep_frozen: int | None = Field(
        default=None,
        ge=0,
        description="Stages at the stem that progressive leaves frozen; by default the layers that the "
        "architecture's paper never trains.",
    )
    cache_features: bool = Field(
        default=True, description="With --freeze head: run the frozen part once instead of every epoch."
    )
    feature_views: int = Field(default=2, ge=1, le=64, description="Augmented views that are cached.")
    ema: Share = Field(default=0.0, description="Decay of the moving average of the weights; 0 for none.")
    patience: int = Field(
        default=10,
        ge=0,
        description="Epochs without a better validation macro-F1 before the end; 0 never ends.",
    )
    amp: Literal["auto", "off", "bf16", "fp16"] = Field(
        default="auto", description="Mixed precision; auto uses it on CUDA alone."
    )

    # Augmentation.
    augmentation: bool = Field(
        default=True, description="Vary the crops; without it, all that follows is off."
    )
    policy: Literal["none", "autoaugment"] = Field(
        default="none", description="Also vary crops by the policy that AutoAugment found for ImageNet."
    )
    hflip: Strength = 0.5
    vflip: Strength = 0.5
    rotation: float = Field(
        default=180.0, ge=0, le=180, description="Largest rotation, degrees, in both directions."
    )
    translation: Strength = Field(default=0.05, description="Largest shift, as a share of the side.")
    zoom: Strength = Field(default=0.1, description="Largest change of size: 0.1 scales by 0.9 to 1.1.")
    brightness: Strength = 0.2
    contrast: Strength = 0.2
    saturation: Strength = 0.2
    hue: float = Field(default=0.03, ge=0, le=0.5)
    stain: Strength = Field(default=0.2, description="Variation of the dyes in HED space.")
    blur: Strength = Field(default=0.0, description="Share of crops that are blurred.")
    noise: Strength = Field(default=0.0, description="Largest standard deviation of noise, of 1.")
    erasing: Strength = Field(default=0.0, description="Share of crops with a part erased.")
    mixup: float = Field(default=0.0, ge=0, le=10, description="Alpha of mixup; 0 switches it off.")
    cutmix: float = Field(default=0.0, ge=0, le=10, description="Alpha of cutmix; 0 switches it off.")

    # Learning from another model, and not forgetting.
    teacher: str = Field(
        default="", description="Teacher: a model whose probabilities are also learnt (distillation)."
    )
    distil_weight: Strength = 0.5
    distil_temperature: float = Field(default=2.0, gt=0, le=100)
    rehearse: bool = Field(
        default=False,
        description="Fit the head on stored features of the old classes as well (preset adapt).",
    )

    without_labels: bool = Field(
        default=False,
        description="Adapt to images without classes: DATA is a folder of images of a laboratory.",
    )

    # What is fitted afterwards.
    target_error: Share = Field(
        default=0.01,
        description="Share of wrong classes that is accepted among the cells that need no review.",
    )
    ood_share: Share = Field(
        default=0.01,
        description="Share of the validation cells that may go to review as unlike the training data.",
    )
    second_look: Strength = Field(
        default=0.0,
        description="Largest probability below which the mirror images of a cell are classified, too.",
    )

    # How it runs.
    seed: int = Field(default=0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    checkpoint_minutes: float = Field(
        default=10.0,
        ge=0,
        description="Minutes between checkpoints within an epoch; 0 saves after every step.",
    )
    restart: bool = Field(
        default=False, description="Start from the beginning although there is a checkpoint."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if not self.data and not self.corrections:
            raise ValueError("give labelled crops (data) or a review store (corrections)")
        if self.without_labels and not (self.data and self.from_model):
            raise ValueError(
                "to adapt without labels, give images (data) and a model to start from (from_model)"
            )
        if bool(self.arch) == bool(self.from_model):
            raise ValueError("give either an architecture (arch) or a model to start from (from_model)")
        if self.validation_share + self.test_share >= 0.9:
            raise ValueError("validation_share and test_share leave less than a tenth for training")
        if self.rehearse and not self.from_model:
            raise ValueError("rehearse needs a model to start from (from_model)")
        if self.from_model:
            fixed = sorted({"arguments", "weights", "side_px", "side_um", "mean", "std"} & self._set_fields())
            if fixed:
                raise ValueError(f"{fixed[0]} comes from the model {self.from_model}: leave it out")
        return self

    def _set_fields(self) -> set[str]:
        defaults = type(self).model_fields
        return {name for name in defaults if getattr(self, name) != defaults[name].default}

    @property
    def model_name(self) -> str:
        """Name of the model: as given, else after what it was made from."""
        if self.name:
            return self.name
        if self.from_model:
            return f"{Path(self.from_model).name}-{self.preset or 'tuned'}"
        return self.arch.replace("/", "_")


def make_checked(**options: Any) -> TrainConfig:
    """Build a `TrainConfig`.

    Parameters
    ----------
    **options
        Its fields.

    Returns
    -------
    TrainConfig

    Raises
    ------
    ArgumentError
        If an option is wrong, in one line.
    """
    try:
        return TrainConfig(**options)
    except ValidationError as error:
        first = error.errors()[0]
        what = first["msg"].removeprefix("Value error, ")
        where = ".".join(str(part) for part in first["loc"])
        if not where:
            raise ArgumentError(f"training settings: {what}.") from error
        if first["type"] == "extra_forbidden":
            raise ArgumentError(_unknown(where)) from error
        raise ArgumentError(f"{where}: {what} (got {first.get('input')!r}).") from error


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, TrainConfig.model_fields, n=1)
    return f"training knows no setting {name!r}; " + (
        f"did you mean {near[0]!r}?" if near else "see leukocls train --help."
    )


@lru_cache(maxsize=1)
def _presets() -> dict[str, dict[str, Any]]:
    return tomllib.loads(PRESETS_FILE.read_text(encoding="utf-8"))


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets, in the order of their file.

    Returns
    -------
    tuple of str
    """
    return tuple(_presets())


def preset_summary(name: str) -> str:
    """Return in one line what a preset is for.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
    """
    return str(_preset(name)["summary"])


def preset_settings(name: str) -> dict[str, Any]:
    """Return the settings that a preset states; all others keep their defaults.

    Parameters
    ----------
    name : str

    Returns
    -------
    dict

    Raises
    ------
    ArgumentError
        Where there is no such preset; the nearest is suggested.
    """
    return {key: value for key, value in _preset(name).items() if key not in _NO_SETTINGS}


def guesses(name: str) -> tuple[str, ...]:
    """Return the settings of a preset that its paper does not state.

    Parameters
    ----------
    name : str

    Returns
    -------
    tuple of str
    """
    return tuple(_preset(name).get("guesses", ()))


def make_train_config(preset: str | None = None, **overrides: Any) -> TrainConfig:
    """Build the settings of a training: defaults, then the preset's, then what is given here.

    Parameters
    ----------
    preset : str, optional
    **overrides
        Fields of `TrainConfig`.

    Returns
    -------
    TrainConfig

    Raises
    ------
    ArgumentError
        With one line, where a setting or the preset's name is wrong.
    """
    settings = preset_settings(preset) if preset else {}
    # A preset's architecture is a proposal: a model or another architecture takes its place.
    if overrides.get("from_model"):
        for name in ("arch", "arguments", "side_px", "mean", "std"):
            settings.pop(name, None)
    elif overrides.get("arch") and preset and overrides["arch"] != settings.get("arch"):
        settings.pop("arguments", None)
        settings |= _for_architecture(preset, overrides["arch"])
    if overrides.get("arch"):
        settings.pop("from_model", None)
    return make_checked(**{**settings, "preset": preset or "", **overrides})


def _for_architecture(preset: str, arch: str) -> dict[str, Any]:
    """Settings of a preset for another architecture than its own: those of the first pattern that fits."""
    others = _preset(preset).get("by_architecture", {})
    return dict(next((values for pattern, values in others.items() if fnmatchcase(arch, pattern)), {}))


def _preset(name: str) -> dict[str, Any]:
    presets = _presets()
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(presets)}."
        raise ArgumentError(f"there is no training preset {name!r}; {hint}")
    return presets[name]
