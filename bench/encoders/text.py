"""A table as sentences: each observed attribute is written out and read by a frozen model.

Every value of an attribute has one sentence, made from the attribute's template: a category each of
its words, and a word for those that training never saw; a number each value of the training part,
and a case gets the sentence of the nearest. All sentences are read when the encoder is built, so
that encoding a case only looks them up. Each attribute owns a run of slots as long as its longest
sentence; a shorter one leaves the rest of the run invalid.

Source: CMML (arXiv 2605.25968), section 3.1, for sentences as tokens; AlignedFusion (MIDL 2026,
under review), eq. 5, for one [CLS] vector per attribute. How numbers are written is ours.
"""

# B batch, A attributes, T slots, C token width, S sentences, R tokens of all sentences,
# G sentences of a number

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data import Attribute
from bench.encoders.inputs import ModalityInput
from bench.encoders.language import sentence_features
from bench.encoders.preprocessing import AttributeStatistics, NumericStatistics, TableStatistics
from bench.spec import EncoderConfig

UNSEEN = "other"  # what is written for a category that training never saw


class TextEncoder(nn.Module):
    """Look up the frozen features of a table's sentences; no parameters.

    `attribute` says whose slot each is, `value_tokens` has a vector for each value of each
    attribute in order, as its code counts them: the mean over the sentence's tokens, of a quartile
    that of its middle value.
    """

    features: Tensor
    start: Tensor
    length: Tensor
    first: Tensor
    numeric: Tensor
    borders: Tensor
    slot_attribute: Tensor
    slot_place: Tensor

    def __init__(
        self,
        attributes: Sequence[Attribute],
        fitted: TableStatistics,
        config: EncoderConfig,
        device: torch.device | str = "cpu",
    ):
        """Read all sentences, or find them in the cache.

        Args:
            attributes: of the table.
            fitted: vocabularies and the values of numbers.
            config: which features of which model.
            device: where the model runs if it is needed.

        Raises:
            BadConfig: the model cannot be had.
            ValueError: the preprocessing did not keep the values of numbers.
        """
        super().__init__()
        written = [sentences_of(*each) for each in zip(attributes, fitted.attributes, strict=True)]
        read = sentence_features([each for own in written for each in own], config, device)
        lengths = torch.tensor([len(each) for each in read])
        n_slots = [int(own.max()) for own in lengths.split([len(own) for own in written])]
        self.attribute = tuple(a for a, n in enumerate(n_slots) for _ in range(n))
        self.n_tokens, self.d_token = sum(n_slots), read[0].shape[1]
        self._keep("features", torch.cat(read))  # (R, C)
        self._keep("start", lengths.cumsum(0) - lengths)  # (S,) first token of each sentence
        self._keep("length", lengths)  # (S,)
        self._keep("first", _starts([len(own) for own in written]))  # (A,) first sentence of each
        self._keep("slot_attribute", torch.tensor(self.attribute))  # (T,)
        self._keep("slot_place", torch.cat([torch.arange(n) for n in n_slots]))  # (T,)
        numbers = [a for a, each in enumerate(fitted.attributes) if each.kind == "numeric"]
        self._keep("numeric", torch.tensor(numbers, dtype=torch.long))
        self._keep("borders", _borders(fitted.attributes))  # (A', G - 1), of the numeric ones
        self.value_tokens = self._value_tokens(fitted)

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def forward(self, content: ModalityInput) -> Tensor:
        """Return (B, T, C); slots that are not valid are zeros."""
        sentence = self._sentences(content)[:, self.slot_attribute]  # (B, T)
        row = self.start[sentence] + torch.minimum(self.slot_place, self.length[sentence] - 1)
        values = F.embedding(row, self.features)
        return torch.where(self.slots(content).unsqueeze(2), values, 0.0)

    def slots(self, content: ModalityInput) -> Tensor:
        """Return which slots hold a token of an observed attribute's sentence: (B, T) bool."""
        assert content.codes is not None
        observed = (content.codes >= 0)[:, self.slot_attribute]
        sentence = self._sentences(content)[:, self.slot_attribute]
        return observed & (self.slot_place < self.length[sentence])

    def _sentences(self, content: ModalityInput) -> Tensor:
        """Return which sentence each attribute has: (B, A), any where it is not observed."""
        assert content.codes is not None
        assert content.numbers is not None
        place = content.codes.clamp(min=0)
        if len(self.numeric):
            z = content.numbers.nan_to_num(0.0)[:, self.numeric].T.contiguous()  # (A', B)
            place = place.index_copy(1, self.numeric, torch.searchsorted(self.borders, z).T)
        return self.first + place

    def _value_tokens(self, fitted: TableStatistics) -> Tensor:
        """Return the vector of each value of each attribute in order: (sum of n_codes, C)."""
        sentence = torch.repeat_interleave(torch.arange(len(self.length)), self.length)  # (R,)
        mean = torch.zeros(len(self.length), self.d_token).index_add_(0, sentence, self.features)
        mean = mean / self.length.unsqueeze(1)  # (S, C)
        places = [
            first + place
            for first, each in zip(self.first.tolist(), fitted.attributes, strict=True)
            for place in _places_of_codes(each)
        ]
        return mean[places]


def sentences_of(attribute: Attribute, fitted: AttributeStatistics) -> list[str]:
    """Write a sentence for each value of an attribute: in order of codes, or of size.

    Raises:
        ValueError: the values of a number were not kept.
    """
    name = attribute.name.replace("_", " ")
    if isinstance(fitted, NumericStatistics):
        words = [in_digits(value) for value in _values(fitted)]
    else:
        words = [UNSEEN, *fitted.vocabulary]
    return [attribute.template.format(name=name, value=word) for word in words]


def in_digits(value: float) -> str:
    """Write a number as a person would: whole ones without a point, others to six digits."""
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def _values(fitted: NumericStatistics) -> tuple[float, ...]:
    """Return the values that have a sentence, ascending; at least one."""
    if fitted.values is None:
        raise ValueError("values of numbers were not kept; fit with keep_values=True for text")
    return fitted.values or (fitted.mean,)


def _borders(fitted: Sequence[AttributeStatistics]) -> Tensor:
    """Return the middles between neighbouring values of each number, standardised: (A', G - 1).

    Numbers of fewer values are filled up with infinity, which no number exceeds.
    """
    rows = []
    for each in fitted:
        if isinstance(each, NumericStatistics):
            values = (np.array(_values(each)) - each.mean) / each.std
            rows.append(torch.from_numpy((values[1:] + values[:-1]) / 2).float())
    width = max((len(row) for row in rows), default=0)
    padded = [F.pad(row, (0, width - len(row)), value=float("inf")) for row in rows]
    return torch.stack(padded) if padded else torch.zeros(0, 0)


def _places_of_codes(fitted: AttributeStatistics) -> list[int]:
    """Return which sentence of an attribute stands for each of its codes."""
    if not isinstance(fitted, NumericStatistics):
        return list(range(fitted.n_codes))
    values = np.array(_values(fitted))
    quartile = np.searchsorted(fitted.edges, values, side="left")
    places = []
    for code in range(fitted.n_codes):
        inside = np.flatnonzero(quartile == code)
        if len(inside):
            places.append(int(inside[len(inside) // 2]))
        else:  # edges coincide: the value at the nearest edge
            edge = fitted.edges[min(code, len(fitted.edges) - 1)]
            places.append(int(np.abs(values - edge).argmin()))
    return places


def _starts(sizes: Sequence[int]) -> Tensor:
    total = torch.tensor(sizes).cumsum(0)
    return total - torch.tensor(sizes)
