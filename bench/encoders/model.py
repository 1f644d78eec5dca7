"""The encoders that all methods of a study share: preprocessed cases in, tokens out."""

# B batch, M modalities, T tokens of a modality, C token width

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.data import Modality, Task, Tokens, TokenSpec
from bench.encoders.attributes import AttributeEncoder
from bench.encoders.image import ImageEncoder
from bench.encoders.inputs import Inputs, ModalityInput, concatenate
from bench.encoders.pixels import PictureStatistics, VolumeStatistics
from bench.encoders.preprocessing import (
    Preprocessor,
    Statistics,
    TableStatistics,
    VectorStatistics,
    encoder_groups,
)
from bench.encoders.text import TextEncoder
from bench.encoders.vector import VectorEncoder
from bench.encoders.volume import VolumeEncoder
from bench.errors import BadData
from bench.spec import EncoderConfig


@dataclass(frozen=True)
class _Group:
    """The modalities that one encoder serves, and the name of its module."""

    name: str
    members: tuple[int, ...]


class Encoders(nn.Module):
    """One encoder per key. Rows of an absent modality are never encoded.

    Each encoder is a child named by its modality or shared key, so that with the whole stored as
    `encoders` the parameters of key `view` begin with `encoders.view.`.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        preprocessor: Preprocessor,
        config: EncoderConfig,
        *,
        separate: bool = False,
        load_weights: bool = True,
        device: torch.device | str = "cpu",
    ):
        """Build the encoders.

        Args:
            modalities: of the dataset, in order.
            preprocessor: fitted on the training part; gives shapes and vocabularies.
            config: settings that all methods of a study share.
            separate: one encoder per modality, also for those that name a shared one.
            load_weights: False leaves pretrained weights out, for a checkpoint that brings them.
            device: where a language model runs, if sentences are read that are not in the cache.

        Raises:
            BadConfig, UnknownName: an image encoder, a language model or its weights cannot be had.
            BadData: modalities share an encoder but not the shape of their pictures or volumes.
        """
        super().__init__()
        self._groups = _groups(modalities, separate=separate)
        specs: dict[int, TokenSpec] = {}
        for group in self._groups:
            _check_same_shape(group, modalities, preprocessor)
            modality, fitted = (
                modalities[group.members[0]],
                preprocessor.statistics[group.members[0]],
            )
            if isinstance(fitted, TableStatistics) and config.text:
                encoder: nn.Module = TextEncoder(modality.attributes, fitted, config, device)
            else:
                encoder = _build(fitted, config, load_weights=load_weights)
            self.add_module(group.name, encoder)
            specs |= {m: _spec(modalities[m], m, preprocessor, encoder) for m in group.members}
        self.specs = tuple(
            replace(specs[m], encoder=self.encoder_prefixes(m)) for m in range(len(modalities))
        )

    def task(self, classes: tuple[str, ...], d_model: int) -> Task:
        """Return what a method is told of these tokens."""
        return Task(self.specs, classes, d_model)

    def encoder_prefixes(self, m: int) -> str:
        """Return how the parameter names of modality m's encoder begin, as a `Stage` takes it."""
        return f"encoders.{next(group.name for group in self._groups if m in group.members)}."

    def forward(self, inputs: Inputs) -> tuple[Tokens, ...]:
        """Encode what is observed: M times (B, T_m, C_m); all else is zero, NaN or -1.

        Args:
            inputs: B cases; content of an absent modality is never handed to its encoder.
        """
        tokens: dict[int, Tokens] = {}
        for group in self._groups:
            encoder = self.get_submodule(group.name)
            for m, values in self._encode(group, inputs).items():
                content, observed = inputs.content[m], inputs.observed[:, m]
                tokens[m] = _tokens(self.specs[m], values, content, observed, encoder)
        return tuple(tokens[m] for m in range(len(self.specs)))

    def prepare(self, inputs: Inputs) -> Inputs:
        """Replace the pictures of frozen encoders by their tokens, so that no epoch encodes them.

        Each picture is encoded once: tokens of published weights are the same in every run, and are
        kept in the cache folder. Frozen encoders without published weights are left as they are.

        Args:
            inputs: B cases; content of an absent modality is not encoded.

        Raises:
            BadConfig: the cache folder cannot be written.
        """
        content = list(inputs.content)
        for group in self._groups:
            encoder = self.get_submodule(group.name)
            if isinstance(encoder, ImageEncoder) and encoder.is_fixed:
                for m in group.members:
                    content[m] = _frozen_tokens(encoder, content[m], inputs.observed[:, m])
        return Inputs(tuple(content), inputs.observed)

    @staticmethod
    def are_done(inputs: Inputs) -> bool:
        """Whether tokens of these cases are the same in every epoch: nothing is left to encode.

        So it is with vectors, and with pictures that `prepare` replaced by their tokens.

        Args:
            inputs: cases as a method trains on them.
        """
        return all(each.vector is not None or each.tokens is not None for each in inputs.content)

    def _encode(self, group: _Group, inputs: Inputs) -> dict[int, Tensor]:
        """Encode the present rows of a group in one call: (B, T, C) for each member."""
        ready = {m: inputs.content[m].tokens for m in group.members}
        if all(tokens is not None for tokens in ready.values()):
            return {
                m: tokens.masked_fill(~inputs.observed[:, m, None, None], 0.0)
                for m, tokens in ready.items()
                if tokens is not None
            }
        encoder = self.get_submodule(group.name)
        present = [inputs.observed[:, m].nonzero().flatten() for m in group.members]
        parts = [inputs.content[m] for m in group.members]
        counts = [len(rows) for rows in present]
        if 0 < len(inputs.observed) == min(counts):  # nothing to leave out, nothing to put back
            encoded = _encode_together(encoder, parts, counts)
            return dict(zip(group.members, encoded, strict=True))
        shape = self.specs[group.members[0]]
        blank = torch.zeros(
            len(inputs.observed), shape.n_tokens, shape.d_token, device=inputs.observed.device
        )
        if sum(counts) == 0:
            return dict.fromkeys(group.members, blank)
        parts = [part.rows(rows) for part, rows in zip(parts, present, strict=True)]
        encoded = _encode_together(encoder, parts, counts)
        return {
            m: blank.index_copy(0, rows, each)
            for m, rows, each in zip(group.members, present, encoded, strict=True)
        }


def _encode_together(
    encoder: nn.Module, parts: Sequence[ModalityInput], counts: list[int]
) -> Sequence[Tensor]:
    """Encode the rows of several modalities in one call: (n_m, T, C) each."""
    with _batch_statistics(encoder, n_rows=sum(counts)):
        return encoder(concatenate(parts)).float().split(counts)


@contextmanager
def _batch_statistics(encoder: nn.Module, *, n_rows: int) -> Iterator[None]:
    """Use running statistics for a single row: it has none of its own, and leaves none behind."""
    if n_rows > 1:
        yield
        return
    training = [module for module in encoder.modules() if module.training]
    if not any(isinstance(module, _BatchNorm) for module in training):
        yield
        return
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _frozen_tokens(
    encoder: ImageEncoder, content: ModalityInput, observed: Tensor
) -> ModalityInput:
    """Return the tokens of the present pictures, zeros elsewhere."""
    assert content.pictures is not None
    tokens = torch.zeros(len(observed), encoder.n_tokens, encoder.d_token)
    rows = observed.nonzero().flatten().cpu()
    if len(rows):
        tokens[rows] = torch.stack(encoder.tokens_of(content.pictures[rows]))
    return ModalityInput(tokens=tokens)


def _groups(modalities: Sequence[Modality], *, separate: bool) -> tuple[_Group, ...]:
    groups = encoder_groups(modalities)
    if separate:
        groups = {modality.name: (m,) for m, modality in enumerate(modalities)}
    return tuple(_Group(_module_name(key), members) for key, members in groups.items())


def _module_name(key: str) -> str:
    """Make a key a name that a module can have: no dots, no attribute of every module."""
    name = re.sub(r"\W", "_", key)
    return f"{name}_" if hasattr(Encoders, name) or hasattr(nn.Module(), name) else name


def _check_same_shape(
    group: _Group, modalities: Sequence[Modality], preprocessor: Preprocessor
) -> None:
    if len(group.members) == 1:
        return
    shapes: dict[int, tuple[int, ...]] = {}
    for m in group.members:
        fitted = preprocessor.statistics[m]
        assert isinstance(fitted, PictureStatistics | VolumeStatistics)  # encoder_groups saw to it
        shapes[m] = fitted.shape
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{modalities[m].name} {shape}" for m, shape in shapes.items())
        what = "pictures" if modalities[group.members[0]].kind == "image" else "volumes"
        raise BadData(
            f"{what} that share encoder {group.name!r} must have one "
            f"shape, got {listed}; read them at one size or give each its own encoder"
        )


def _build(fitted: Statistics, config: EncoderConfig, *, load_weights: bool) -> nn.Module:
    if isinstance(fitted, TableStatistics):
        return AttributeEncoder(fitted.kinds, fitted.n_codes, config.d_attribute)
    if isinstance(fitted, VectorStatistics):
        return VectorEncoder()
    if isinstance(fitted, VolumeStatistics):
        return VolumeEncoder(fitted, config)
    return ImageEncoder(fitted, config, load_weights=load_weights)


def _spec(modality: Modality, m: int, preprocessor: Preprocessor, encoder: nn.Module) -> TokenSpec:
    if isinstance(encoder, AttributeEncoder | TextEncoder):
        fitted = preprocessor.of(m, TableStatistics)
        return TokenSpec(
            modality.name,
            modality.kind,
            n_tokens=encoder.n_tokens,
            d_token=encoder.d_token,
            attribute=encoder.attribute,
            attribute_names=tuple(attribute.name for attribute in modality.attributes),
            attribute_kinds=fitted.kinds,
            n_codes=fitted.n_codes,
            value_tokens=encoder.value_tokens,
        )
    if isinstance(encoder, ImageEncoder | VolumeEncoder):
        n_tokens, d_token = encoder.n_tokens, encoder.d_token
    else:
        n_tokens, d_token = 1, len(preprocessor.of(m, VectorStatistics).mean)
    return TokenSpec(modality.name, modality.kind, n_tokens, d_token, attribute=(-1,) * n_tokens)


def _tokens(
    spec: TokenSpec,
    values: Tensor,
    content: ModalityInput,
    observed: Tensor,
    encoder: nn.Module,
) -> Tokens:
    """Dress encoded values as tokens; `observed` is (B,) bool."""
    device, n_rows = values.device, len(values)
    attribute = torch.tensor(spec.attribute, dtype=torch.long, device=device)
    if not isinstance(encoder, AttributeEncoder | TextEncoder):
        valid = observed.unsqueeze(1).expand(-1, spec.n_tokens)
        codes = torch.zeros(n_rows, 0, dtype=torch.long, device=device)
        numbers = torch.zeros(n_rows, 0, device=device)
        return Tokens(values, valid, attribute, codes, numbers)
    content = content.restrict(observed)
    assert content.codes is not None
    assert content.numbers is not None
    numbers = content.numbers.masked_fill(content.codes < 0, float("nan"))
    return Tokens(values, encoder.slots(content), attribute, content.codes, numbers)
