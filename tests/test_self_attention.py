"""Self-Attention against its formula, and as AlignedFusion without intermediate token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.data import Task
from bench.methods.alignedfusion import AlignedFusion, AlignedFusionConfig
from bench.methods.self_attention import PLUGIN, SelfAttention, SelfAttentionConfig
from tests.toy_tokens import (
    gradient_names,
    image,
    make_progress,
    make_task,
    make_tokens,
    n_parameters,
    patterns,
    polluted,
    table,
    table_tokens,
    total,
    train,
    without_dropout,
)

TASK = make_task(image("a"), image("b", 3, 7), table())


def build(task: Task = TASK, **settings: Any) -> SelfAttention:
    return SelfAttention(task, SelfAttentionConfig(**settings))


def test_absent_content_has_no_influence() -> None:
    method, available = build().eval(), patterns(3)
    tokens = make_tokens(TASK, 7)
    clean = method(tokens, available).logits
    assert clean.isfinite().all()
    for content in (7.0, float("nan")):
        assert torch.equal(method(polluted(tokens, available, content), available).logits, clean)


@pytest.mark.parametrize("m", range(3))
def test_one_modality_equals_the_model_on_that_modality_alone(m: int) -> None:
    method = build().eval()
    alone = build(make_task(TASK.modalities[m])).eval()
    state = {
        name.replace(f"sets.{m}.", "sets.0."): value
        for name, value in method.state_dict().items()
        if not name.startswith("sets.") or name.startswith(f"sets.{m}.")
    }
    state["fusion.modality"] = state["fusion.modality"][m : m + 1]
    if TASK.modalities[m].kind != "table":
        del state["unknown"]
    alone.load_state_dict(state)
    tokens = make_tokens(TASK, 5)
    available = torch.zeros(5, 3, dtype=torch.bool)
    available[:, m] = True
    single = alone([tokens[m]], torch.ones(5, 1, dtype=torch.bool)).logits
    torch.testing.assert_close(method(tokens, available).logits, single, rtol=0, atol=1e-5)


def test_it_is_alignedfusion_without_intermediate_token() -> None:
    config = AlignedFusionConfig(intermediate_token=False)
    other = AlignedFusion(TASK, config).eval()
    method = build(reconstruct=True).eval()
    method.load_state_dict(other.state_dict())
    tokens, available = make_tokens(TASK, 7), patterns(3)
    assert torch.equal(method(tokens, available).logits, other(tokens, available).logits)
    plain = set(build().state_dict())
    assert {name for name in other.state_dict() if "reconstructions" not in name} == plain


def test_an_absent_table_is_left_out_and_an_absent_attribute_is_the_unknown_token() -> None:
    method = build().eval()
    tokens = make_tokens(TASK, 4, p_attribute=1.0)
    codes = tokens[2].codes.clone()
    codes[:, 1] = -1
    gap = [*tokens[:2], table_tokens(TASK.modalities[2], codes)]
    everything = torch.ones(4, 3, dtype=torch.bool)
    absent = everything & torch.tensor([True, True, False])
    before = [method(gap, each).logits for each in (everything, absent)]
    with torch.no_grad():
        method.unknown.add_(1.0)
    after = [method(gap, each).logits for each in (everything, absent)]
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])
    shown = replace(gap[2], values=tokens[2].values, valid=tokens[2].valid)
    assert not torch.allclose(method([*gap[:2], shown], everything).logits, after[0])


@pytest.mark.parametrize("d_model", [16, 64])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_parameters_follow_the_formula(d_model: int, n_classes: int) -> None:
    task = make_task(image("a"), image("b", 3, 7), n_classes=n_classes, d_model=d_model)
    projections = sum(s.d_token * d_model + 3 * d_model for s in task.modalities)  # LayerNorm: 2 D
    attention = 2 * (12 * d_model**2 + 13 * d_model)
    head = d_model**2 + d_model + d_model * n_classes + n_classes
    expected = attention + 2 * d_model + head + projections
    assert n_parameters(build(task)) == expected
    report = table()
    with_table = make_task(*task.modalities, report, n_classes=n_classes, d_model=d_model)
    unknown = d_model
    more = report.d_token * d_model + 3 * d_model + d_model + unknown
    assert n_parameters(build(with_table)) == expected + more


@pytest.mark.parametrize("settings", PLUGIN.presets.values(), ids=list(PLUGIN.presets))
def test_every_parameter_learns_in_some_pattern(settings: dict) -> None:
    method = build(p_drop=0.0, **settings)
    observed = patterns(3).repeat(4, 1)
    tokens = make_tokens(TASK, 28, p_attribute=0.6)
    terms = method.losses(tokens, observed, torch.arange(28) % 2, make_progress())
    total(terms).backward()
    assert gradient_names(method) == {name for name, _ in method.named_parameters()}


def test_loss_falls_in_training() -> None:
    tokens = make_tokens(TASK, 32, p_attribute=1.0)
    label = (tokens[2].codes[:, 0] == 1).long()
    observed = torch.ones(32, 3, dtype=torch.bool)
    history = train(build(), tokens, observed, label, make_progress(), steps=50)
    assert set(history[0]) == {"task"}
    assert history[-1]["task"] < 0.7 * history[0]["task"]


def test_modalities_are_dropped_only_when_asked() -> None:
    tokens = make_tokens(TASK, 8)
    observed, label = torch.ones(8, 3, dtype=torch.bool), torch.arange(8) % 2
    plain, dropping = (
        without_dropout(build(p_drop=0.0, dropout=law)) for law in ("none", "uniform")
    )
    dropping.load_state_dict(plain.state_dict())
    kept = plain.losses(tokens, observed, label, make_progress())["task"]
    dropped = dropping.losses(tokens, observed, label, make_progress())["task"]
    validation = dropping.eval().losses(tokens, observed, label, make_progress())["task"]
    assert not torch.allclose(kept, dropped)
    torch.testing.assert_close(kept, validation)


def test_a_row_without_modalities_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one available modality"):
        build()(make_tokens(TASK, 1), torch.zeros(1, 3, dtype=torch.bool))


def test_the_plugin_is_found_under_its_name() -> None:
    assert PLUGIN.name == "self-attention"
    assert PLUGIN.config_class is SelfAttentionConfig
