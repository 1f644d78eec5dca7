"""What one run is: the full, resolved request of one training, and its identity."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SelectionRule = Literal["all-subsets", "as-trained", "complete"]
Balance = Literal["none", "weights", "batches"]
Precision = Literal["float32", "bf16"]
# how the settings were found: not by a search; inside each fold; on the fixed split's validation
# part; on all folds together, hence on cases that are tested
Tuned = Literal["", "fold", "split", "shared"]


class Frozen(BaseModel):
    """Unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(Frozen):
    """How every method of a study is trained: one arena for all.

    The defaults are the preset `quick`; `bench/presets/` has the others.
    """

    d_model: int = Field(64, ge=4, description="width D shared by all methods")
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=2)
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_epochs: int = Field(5, ge=0, description="linear, from lr/warmup_epochs")
    decay_every: int = Field(5, ge=1, description="epochs between step decays, after warm-up")
    decay_factor: float = Field(0.8, gt=0, le=1)
    encoder_lr_factor: float = Field(1.0, ge=0, description="0.1 for pretrained encoders")
    patience: int = Field(15, ge=1, description="epochs without a better validation score")
    balance: Balance = "none"
    train_dropout: Literal["own", "none", "uniform"] = "own"
    valid_share: float = Field(0.2, gt=0, lt=1, description="carved from training if none is given")


TEXT_MODELS = {  # of encoder.text, where no other is named
    "tokens": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",  # CMML: a DeepSeek of width 1536
    "cls": "emilyalsentzer/Bio_ClinicalBERT",  # AlignedFusion: ClinicalBERT
}


class Augmentation(Frozen):
    """How training pictures and volumes are altered, drawn anew for each case and epoch.

    A strength of 0 leaves its kind of alteration out; shares are of a side of the picture.
    """

    p: float = Field(1.0, ge=0, le=1, description="chance that a case is altered at all")
    together: bool = Field(
        False, description="one draw for all pictures, and one for all volumes, of a case"
    )
    variants: int = Field(
        0, ge=0, description="of a frozen encoder: altered copies of each case, all encoded once"
    )
    p_h_flip: float = Field(0.0, ge=0, le=1, description="left and right; also of volumes")
    p_v_flip: float = Field(0.0, ge=0, le=1, description="up and down; also of volumes")
    p_quarter_turn: float = Field(0.0, ge=0, le=1, description="by 90, 180 or 270 degrees")
    p_move: float = Field(1.0, ge=0, le=1, description="chance of shift, scale and rotate")
    shift: float = Field(0.0, ge=0, lt=1, description="up to this share, in both directions")
    scale: float = Field(0.0, ge=0, lt=1, description="by a factor of 1 - scale to 1 + scale")
    rotate: float = Field(0.0, ge=0, le=180, description="up to these degrees")
    p_distort: float = Field(1.0, ge=0, le=1, description="chance of distort")
    distort: float = Field(0.0, ge=0, lt=1, description="a smooth bend of up to this share")
    p_colour: float = Field(1.0, ge=0, le=1, description="chance of the next four")
    brightness: float = Field(0.0, ge=0, le=1, description="up to this share of white, added")
    contrast: float = Field(0.0, ge=0, le=1, description="by a factor of 1 -+ contrast")
    saturation: float = Field(0.0, ge=0, le=1, description="by a factor of 1 -+ saturation")
    hue: float = Field(0.0, ge=0, le=180, description="up to these degrees about the grey axis")
    crop: float = Field(
        0.0, ge=0, lt=1, description="volumes: padded by this share with 0, cut at the old size"
    )
    p_noise: float = Field(1.0, ge=0, le=1, description="volumes: chance of noise")
    noise: float = Field(0.0, ge=0, description="volumes: of up to so many training SDs")
    p_erase: float = Field(1.0, ge=0, le=1, description="volumes: chance of erase")
    erase: float = Field(
        0.0, ge=0, le=1, description="volumes: a box of up to this share of each side, to the mean"
    )


class EncoderConfig(Frozen):
    """The encoders that all methods of a study share."""

    image: str = Field("resnet10t", description="any timm model")
    pretrained: bool = False
    weights: str = Field("", description="local weights file; empty: timm's own source")
    frozen: bool = Field(False, description="published weights stay; a picture is encoded once")
    augment: Augmentation | None = Field(
        None, description="alter training pictures and volumes: see `bench info augment`"
    )
    d_attribute: int = Field(32, ge=2, description="width of a learned attribute token")
    volume: Literal["conv3d", "nnmamba"] = Field("conv3d", description="encoder of volumes")
    text: Literal["", "tokens", "cls"] = Field(
        "", description="tables as sentences: all their tokens, or [CLS] per attribute"
    )
    text_model: str = Field("", description="folder or hub id; empty: DeepSeek or ClinicalBERT")


class RunSpec(Frozen):
    """One training and where its numbers come from; all defaults are filled in."""

    method: str
    preset: str = ""
    method_config: dict[str, Any]
    dataset: str
    dataset_config: dict[str, Any]
    encoder: EncoderConfig
    recipe: Recipe
    setting: dict[str, Any]  # how training is made incomplete, with its name
    fold: int
    n_folds: int
    split_by: str = ""  # column whose values are the folds: leave one group out
    seed: int
    selection: SelectionRule
    precision: Precision
    fingerprint: str  # of the data files
    split: str  # hash of the three parts
    pattern: str  # hash of who has what in training and validation
    sources: str  # hash of the parsed code that the numbers depend on
    tuned: Tuned = ""

    @property
    def row(self) -> str:
        """The name of its row in a table: `concat:dropout`."""
        return f"{self.method}:{self.preset}" if self.preset else self.method

    @property
    def identity(self) -> str:
        """Twelve hex digits that change with anything that changes the numbers."""
        return digest(self.model_dump(mode="json"))[:12]

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        row = self.row.replace(":", "+")
        repeat = f"f{self.fold}s{self.seed}"
        return f"{row}-{self.dataset}-{self.setting['name']}-{repeat}-{self.identity}"


def canonical_json(value: object) -> str:
    """Write JSON that is the same for equal values: sorted keys, no blanks, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
