"""The blocks that several methods share, by hand."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
from torch import nn

from bench.blocks import (
    AttentionStack,
    Distance,
    attend,
    blank,
    check_heads,
    distance,
    learned_tokens,
    masked_mean,
    mean_where,
)
from bench.data import Tokens
from bench.errors import BadConfig

NAN = float("nan")


def test_the_mean_of_tokens_reads_valid_ones_alone_and_is_zero_without_any() -> None:
    x = torch.tensor([[[1.0], [5.0], [NAN]], [[NAN], [NAN], [NAN]]])
    valid = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(x, valid).tolist() == [[3.0], [0.0]]


def test_what_may_not_be_read_is_blanked() -> None:
    values, codes = torch.tensor([[[1.0], [NAN]], [[NAN], [2.0]]]), torch.zeros(2, 0)
    valid = torch.tensor([[True, False], [True, True]])
    tokens = Tokens(values, valid, torch.tensor([-1, -1]), codes.long(), codes)
    blanked, there = blank([tokens, tokens], torch.tensor([[True, False], [False, False]]))
    assert [each.flatten().tolist() for each in blanked] == [[1.0, 0.0, 0.0, 0.0], [0.0] * 4]
    assert there[0].tolist() == [[True, False], [False, False]]
    assert not there[1].any()


def test_the_mean_of_chosen_entries_reads_them_alone_and_is_zero_without_any() -> None:
    x = torch.tensor([[1.0, NAN], [3.0, NAN]])
    chosen = torch.tensor([[True, False], [True, False]])
    assert mean_where(x, chosen).tolist() == [2.0, 0.0]
    assert mean_where(x, chosen, dim=1).tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("kind", "expected"), [("cosine", 1.0), ("l1", 1.5), ("mse", 2.5), ("kl", 0.0)]
)
def test_distances_by_hand(kind: Distance, expected: float) -> None:
    x, y = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, -1.0]])
    if kind == "cosine":
        y = torch.tensor([[1.0, -1.0]])
    if kind == "kl":
        y = x + 7.0  # the softmax takes a constant out
    assert distance(x, y, kind).tolist() == pytest.approx([expected], abs=1e-6)


def test_the_divergence_is_from_the_first_to_the_second() -> None:
    x, y = torch.tensor([0.0, math.log(3.0)]), torch.zeros(2)
    by_hand = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert distance(x, y, "kl").item() == pytest.approx(by_hand)


def test_learned_tokens_start_small_and_learn() -> None:
    tokens = learned_tokens(100, 50)
    assert tokens.std().item() == pytest.approx(0.02, rel=0.1)
    assert tokens.requires_grad


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    check_heads(4, 16)
    with pytest.raises(BadConfig, match="toy: heads must divide the width 16, got 3"):
        check_heads(3, 16, "toy: heads")


def test_attention_reads_available_tokens_alone() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    query, x = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    available = torch.tensor([[True, True, False, True, False]]).expand(2, -1)
    found = attend(attention, query, x, available)
    torch.testing.assert_close(found, attend(attention, query, x[:, [0, 1, 3]]))
    assert torch.equal(attend(attention, query, x), attention(query, x, x, need_weights=False)[0])


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_layer_has_its_parts_in_the_order_asked_for(
    activation: Literal["relu", "gelu"], pre_norm: bool
) -> None:
    x = torch.randn(2, 5, 8)
    layer: Any = AttentionStack(1, 2, 4, 0.0, pre_norm, activation).layers(8)[0]
    act = torch.relu if activation == "relu" else nn.functional.gelu
    if pre_norm:
        h = layer.norm1(x)
        h = x + attend(layer.self_attn, h, h)
        expected = h + layer.linear2(act(layer.linear1(layer.norm2(h))))
    else:
        h = layer.norm1(x + attend(layer.self_attn, x, x))
        expected = layer.norm2(h + layer.linear2(act(layer.linear1(h))))
    torch.testing.assert_close(layer(x), expected)
    assert sum(p.numel() for p in layer.parameters()) == 12 * 8**2 + 13 * 8


def test_layers_start_apart_and_those_of_an_encoder_alike() -> None:
    stack = AttentionStack(2, 2, 4, 0.0)
    encoder = stack.encoder(8, last_norm=True)
    pairs: Any = ((stack.layers(8), False), (encoder.layers, True))
    for (one, other), alike in pairs:
        assert torch.equal(one.linear1.weight, other.linear1.weight) is alike
    x = torch.randn(2, 5, 8)
    expected = nn.functional.layer_norm(encoder.layers[1](encoder.layers[0](x)), (8,))
    torch.testing.assert_close(encoder(x), expected)
    assert stack.encoder(8).norm is None
    with pytest.raises(BadConfig, match="heads must divide the width 9, got 2"):
        stack.layers(9)
