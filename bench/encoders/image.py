"""Pictures to tokens with any timm model: its last feature map, one token per place."""

# B batch, H W C picture height, width, channels, T tokens, D token width

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.cache_folder import entry_path
from bench.encoders.cache import TensorCache, content_key
from bench.encoders.hub import cached_file, check_reachable
from bench.encoders.inputs import ModalityInput
from bench.encoders.pixels import PictureStatistics
from bench.errors import BadConfig, unknown
from bench.sources import own_hash
from bench.spec import EncoderConfig, digest

MIN_SIDE = 32  # five halvings, as most backbones do, leave one place
BATCH = 32  # pictures that a frozen encoder sees at a time
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class ImageEncoder(nn.Module):
    """A timm backbone without its head; shape of the pictures fixed when it is built.

    From scratch it takes the pictures' own channels, normalised by the training part's moments.
    With pretrained weights it takes three channels (grey is repeated), normalised as it was
    trained. A frozen one never trains: its batch statistics stay, and no graph is built.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, statistics: PictureStatistics, config: EncoderConfig, *, load_weights: bool = True
    ):
        """Build the backbone.

        Args:
            statistics: shape and channel moments of the training pictures.
            config: name of the model and where its weights come from.
            load_weights: False leaves pretrained weights out, for a checkpoint that brings them.

        Raises:
            UnknownName: timm has no model of this name.
            BadConfig: the weights cannot be had or do not fit, or the model cannot take pictures
                of this shape.
        """
        super().__init__()
        height, width, channels = statistics.shape
        factor = max(1.0, MIN_SIDE / min(height, width))
        self.size = (round(height * factor), round(width * factor))
        self.name = config.image
        self.pretrained = config.pretrained or bool(config.weights)
        self.frozen = config.frozen
        self.n_channels = _input_channels(channels, self.pretrained, config)
        self.model = _build(config, self.n_channels, self.size, load_weights=load_weights)
        moments = (statistics.mean, statistics.std)
        mean, std = _published_moments(self.model) if self.pretrained else moments
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        if self.frozen:
            self.requires_grad_(False)
        self.n_tokens, self.d_token = self._token_shape(statistics.shape, config)
        self.train()

    def train(self, mode: bool = True) -> ImageEncoder:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, content: ModalityInput) -> Tensor:
        """Return (B, T, D) of uint8 pictures (B, H, W, C)."""
        assert content.pictures is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.model.forward_features(self._normalise(content.pictures))
            return _to_tokens(features, self.model)

    @property
    def is_fixed(self) -> bool:
        """Whether a picture has the same tokens in every run: published weights that stay."""
        return self.frozen and self.pretrained

    def tokens_of(self, pictures: Tensor) -> list[Tensor]:
        """Return the tokens (T, D) of each of these pictures, encoding those never seen before.

        What was encoded is kept in the cache folder, by all that it depends on: the weights, the
        normalisation and the picture itself. It is float32 whatever the precision of the run.

        Args:
            pictures: uint8 (n, H, W, C).

        Raises:
            BadConfig: the cache folder cannot be written.
        """
        key = self._key()
        cache = TensorCache(entry_path("tokens", self.name, key))

        def make(places: list[int]) -> list[Tensor]:
            batches = pictures[places].to(self.mean.device).split(BATCH)
            return [row for each in batches for row in self(ModalityInput(pictures=each)).cpu()]

        rows = pictures.contiguous().cpu().numpy()
        return cache.get([content_key([key.encode(), row.tobytes()]) for row in rows], make)

    def _key(self) -> str:
        """Hash all that tokens depend on beside the picture."""
        from timm import __version__ as timm_version

        state = self.model.state_dict()
        weights = content_key(
            part
            for name, value in state.items()
            for part in (name.encode(), value.cpu().contiguous().numpy().tobytes())
        )
        moments = [self.mean.flatten().tolist(), self.std.flatten().tolist()]
        code = own_hash([Path(__file__)])
        return digest([self.name, timm_version, weights, self.n_channels, self.size, moments, code])

    def _normalise(self, pictures: Tensor) -> Tensor:
        x = pictures.permute(0, 3, 1, 2).float().div_(255.0)  # (B, C, H, W), in [0, 1]
        x = x.expand(-1, self.n_channels, -1, -1)  # grey to three channels; else as it is
        x = (x - self.mean).div_(self.std)
        if x.shape[2:] != self.size:
            x = nn.functional.interpolate(x, self.size, mode="bilinear", align_corners=False)
        return x

    @torch.no_grad()
    def _token_shape(self, shape: tuple[int, int, int], config: EncoderConfig) -> tuple[int, int]:
        """Find (T, D) with one black picture."""
        self.eval()
        try:
            tokens = self(ModalityInput(pictures=torch.zeros(1, *shape, dtype=torch.uint8)))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise BadConfig(
                f"encoder.image={config.image} cannot take pictures of {shape[0]} x {shape[1]} "
                f"({_one_line(error)}); choose another picture size or model"
            ) from error
        return tokens.shape[1], tokens.shape[2]


def _published_moments(model: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the channel moments that the weights were trained with; ImageNet's if not told."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    published = model.pretrained_cfg
    mean = published.get("mean", IMAGENET_DEFAULT_MEAN)
    return tuple(mean), tuple(published.get("std", IMAGENET_DEFAULT_STD))


def _to_tokens(features: object, model: Any) -> Tensor:
    """Flatten what a timm model calls its features to (B, T, D).

    Maps are (B, D, H, W), or (B, H, W, D) for Swin and its like; sequences (B, T, D) lose their
    class and register tokens; a pooled vector (B, D) is one token.

    Raises:
        ValueError: several maps at once (a list), or other axes.
    """
    if not isinstance(features, Tensor):
        raise ValueError(f"features must be one tensor, got {type(features).__name__}")
    if features.ndim == 2:
        return features.unsqueeze(1)
    if features.ndim == 3:
        return features[:, getattr(model, "num_prefix_tokens", 0) :]
    if features.ndim == 4:
        if _channels_last(features, model):
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)
    raise ValueError(f"features must have 2 to 4 axes, got {tuple(features.shape)}")


def _channels_last(features: Tensor, model: Any) -> bool:
    declared = getattr(model, "output_fmt", None)
    if declared is not None:
        return str(getattr(declared, "value", declared)) == "NHWC"
    return features.shape[1] != model.num_features and features.shape[3] == model.num_features


def _input_channels(channels: int, pretrained: bool, config: EncoderConfig) -> int:
    if not pretrained:
        return channels
    if channels not in (1, 3):
        raise BadConfig(
            f"encoder.image={config.image} with pretrained weights takes grey or RGB pictures, got "
            f"{channels} channels; train from scratch (encoder.pretrained=false)"
        )
    return 3


def _build(
    config: EncoderConfig, n_channels: int, size: tuple[int, int], *, load_weights: bool
) -> Any:
    """Build the timm model without a head, and load its weights."""
    import timm

    if not timm.is_model(config.image):
        raise unknown("timm model", config.image, timm.list_models())
    settings: dict[str, Any] = {"in_chans": n_channels, "num_classes": 0}
    published = timm.get_pretrained_cfg(config.image)
    if published is not None and published.fixed_input_size:
        settings["img_size"] = size
    download = load_weights and config.pretrained and not config.weights
    try:
        source = _published_source(published) if download else {}
        model = timm.create_model(config.image, pretrained=download, **settings, **source)
    except Exception as error:  # timm and the hub it asks raise many kinds
        if download:
            raise _no_weights(config, error) from error
        raise BadConfig(
            f"encoder.image={config.image} cannot be built for pictures of {size[0]} x {size[1]} "
            f"({_one_line(error)}); choose another picture size or model"
        ) from error
    if load_weights and config.weights:
        _load_file(model, config)
    return model


def _published_source(published: Any) -> dict[str, Any]:
    """Tell timm where published weights lie on this machine; nothing, where it must ask the hub.

    Raises:
        OSError: they are not here, and the hub does not answer.
    """
    repository = getattr(published, "hf_hub_id", None)
    if not repository or published.custom_load:
        return {}
    own = published.hf_hub_filename
    file = cached_file(repository, (own,) if own else HUB_FILES)
    if file is not None:
        return {"pretrained_cfg_overlay": {"file": str(file)}}
    check_reachable(repository)
    return {}


def _no_weights(config: EncoderConfig, error: Exception) -> BadConfig:
    return BadConfig(
        f"pretrained weights of encoder.image={config.image} cannot be had "
        f"({type(error).__name__}: {_one_line(error)}); give a file with encoder.weights=PATH, or "
        "train from scratch with encoder.pretrained=false"
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _load_file(model: Any, config: EncoderConfig) -> None:
    """Load a state dict, safetensors or torch; nothing is unpickled but tensors.

    Raises:
        BadConfig: the file cannot be read, lacks weights, has others, or they differ in shape.
    """
    state = _read_file(config)
    try:
        state = _without_head(_adapt(state, model), model)
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (KeyError, RuntimeError) as error:
        raise _misfit(config, _one_line(error)) from error
    if missing or unexpected:
        lacks = f"lacks {len(missing)} of its weights" if missing else "has weights of another"
        first = (missing or unexpected)[0]
        raise _misfit(config, f"it {lacks}, first {first!r}")


def _adapt(state: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Rename old keys and resize position tables as timm does for its own downloads."""
    adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return state if adapt is None else adapt(state, model)


def _without_head(state: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    head = model.pretrained_cfg.get("classifier") or ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    return {
        name: value
        for name, value in state.items()
        if not any(name.startswith(f"{each}.") for each in heads)
    }


def _read_file(config: EncoderConfig) -> dict[str, Tensor]:
    from timm.models import load_state_dict

    path = Path(config.weights)
    if not path.is_file():
        raise BadConfig(f"encoder.weights={path} is no file; give the path of the weights")
    try:
        return load_state_dict(str(path), weights_only=True)
    except Exception as error:  # whatever a file that holds no weights provokes
        raise BadConfig(
            f"encoder.weights={path} cannot be read ({_one_line(error)}); give a safetensors file "
            "or a torch file with nothing but a state dict"
        ) from error


def _misfit(config: EncoderConfig, reason: str) -> BadConfig:
    return BadConfig(
        f"encoder.weights={config.weights} does not fit encoder.image={config.image}: {reason}; "
        "name the model that the weights were trained with"
    )
