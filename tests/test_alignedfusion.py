"""AlignedFusion against its formulas and what it promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.attribute_fusion import AttributeFusion
from bench.data import Task, Tokens
from bench.errors import BadConfig, NotApplicable
from bench.layers.attribute_tokens import TokenSet
from bench.layers.reconstruction import Reconstruction
from bench.methods.alignedfusion import (
    PLUGIN,
    AlignedFusion,
    AlignedFusionConfig,
    IntermediateToken,
)
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

PAIR = make_task(image(), table())
TASKS = {
    "image and table": PAIR,
    "two images and table": make_task(image("a"), image("b", 3, 7), table()),
    "two images and two tables": make_task(image("a"), table("t"), image("b"), table("u", (2, 5))),
    "tables alone": make_task(table("t"), table("u", (4, 4)), table("v", (2,))),
    "images alone": make_task(image("a"), image("b", 1, 9)),
}


def build(task: Task = PAIR, **settings: Any) -> AlignedFusion:
    return AlignedFusion(task, AlignedFusionConfig(**settings))


def everything(task: Task, n_rows: int) -> tuple[list[Tokens], Tensor]:
    tokens = make_tokens(task, n_rows, p_attribute=1.0, p_token=1.0)
    return tokens, torch.ones(n_rows, task.n_modalities, dtype=torch.bool)


def intermediate(method: AttributeFusion) -> IntermediateToken:
    assert isinstance(method.fusion, IntermediateToken)
    return method.fusion


def fused(method: AttributeFusion, tokens: list[Tokens], available: Tensor) -> list[Tensor]:
    """The sets after the first pass."""
    return method.fusion(*method.read(tokens, available))


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
@pytest.mark.parametrize("settings", [{}, {"intermediate_token": False}], ids=["IT", "joint"])
def test_absent_content_changes_neither_logits_nor_gradients(task: Task, settings: dict) -> None:
    available = patterns(task.n_modalities)
    method = without_dropout(build(task, p_drop=0.0, **settings))
    tokens, label = make_tokens(task, len(available)), torch.arange(len(available)) % 2
    found = []
    for content in (0.0, 7.0, float("nan")):
        method.zero_grad()
        dirty = polluted(tokens, available, content)
        total(method.losses(dirty, available, label, make_progress())).backward()
        gradients = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
        found.append((method(dirty, available).logits, torch.cat(gradients)))
    for logits, gradient in found[1:]:
        assert torch.equal(logits, found[0][0])
        assert torch.equal(gradient, found[0][1])
    assert found[0][0].isfinite().all()
    assert found[0][1].isfinite().all()


def test_eval_logits_do_not_read_unobserved_codes() -> None:
    method, (tokens, available) = build().eval(), everything(PAIR, 4)
    gone = tokens[1].valid.clone()
    gone[:, 1] = False
    seen = replace(tokens[1], valid=gone)
    noise = replace(
        seen, codes=torch.where(gone, seen.codes, 99), values=seen.values + ~gone[..., None]
    )
    first, second = (method([tokens[0], each], available).logits for each in (seen, noise))
    assert torch.equal(first, second)


def test_a_masked_value_changes_the_loss_alone() -> None:
    method, (tokens, available) = build(p_drop=0.0), everything(PAIR, 4)
    codes = tokens[1].codes.clone()
    codes[:, 1] = (codes[:, 1] + 1) % 3
    outcomes = []
    for each in (tokens[1], table_tokens(PAIR.modalities[1], codes)):
        both = [tokens[0], each]
        x, visible = method.read(both, available)
        visible[1][:, 1] = False
        prediction, guesses = method.fuse(x, visible, available)
        hidden = {1: ~visible[1]}
        error = method.reconstruction_error(both, x, hidden, guesses)
        outcomes.append((prediction, guesses[1], error))
    (prediction, guess, error), (other, other_guess, other_error) = outcomes
    assert torch.equal(prediction.logits, other.logits)
    assert torch.equal(guess, other_guess)
    for name, value in prediction.representations.items():
        assert torch.equal(value, other.representations[name])
    assert not torch.allclose(error, other_error)


def test_nothing_masked_means_no_reconstruction_loss() -> None:
    tokens, available = everything(PAIR, 4)
    label = torch.arange(4) % 2
    losses = build(mask_p=0.0).losses(tokens, available, label, make_progress())
    assert float(losses["reconstruction"].detach()) == 0.0
    validation = build(mask_p=1.0).eval().losses(tokens, available, label, make_progress())
    assert float(validation["reconstruction"].detach()) == 0.0


def test_unobserved_attributes_are_no_target() -> None:
    tokens, available = everything(PAIR, 4)
    tokens[1] = table_tokens(PAIR.modalities[1], torch.full((4, 3), -1))
    losses = build().losses(tokens, available, torch.arange(4) % 2, make_progress())
    assert float(losses["reconstruction"].detach()) == 0.0


def test_the_reconstruction_loss_is_the_mean_over_masked_positions() -> None:
    method, (tokens, available) = build(), everything(PAIR, 2)
    x, _ = method.read(tokens, available)
    guess = torch.full((2, 3, 4), float("-inf"))
    for attribute, n_values in enumerate((2, 3, 4)):
        guess[:, attribute, :n_values] = 0.0  # uniform over the attribute's values
    hidden = torch.tensor([[True, False, False], [False, True, False]])
    error = method.reconstruction_error(tokens, x, {1: hidden}, {1: guess})
    assert float(error) == pytest.approx((torch.tensor(2.0).log() + torch.tensor(3.0).log()) / 2)


def test_attributes_are_masked_at_the_rate_in_training_alone() -> None:
    tokens, available = everything(PAIR, 2000)
    method = build()
    _, seen = method.read(tokens, available)
    image_seen, report_seen = method.hide(seen, available, make_progress())
    assert image_seen.all()
    assert float(report_seen.float().mean()) == pytest.approx(0.7, abs=0.02)
    assert all(each.all() for each in method.eval().hide(seen, available, make_progress()))


def test_a_dropped_table_is_hidden_and_becomes_a_target() -> None:
    tokens, available = everything(PAIR, 4)
    method = build(mask_p=0.0)
    _, seen = method.read(tokens, available)
    kept = torch.tensor([[True, False]] * 4)
    assert not method.hide(seen, kept, make_progress())[1].any()
    dropping = build(mask_p=0.0, dropout="uniform")
    losses = dropping.losses(tokens, available, torch.arange(4) % 2, make_progress())
    assert float(losses["reconstruction"].detach()) > 0.0


def test_an_absent_table_is_one_with_all_attributes_unknown() -> None:
    method, (tokens, available) = build().eval(), everything(PAIR, 4)
    unknown = [tokens[0], table_tokens(PAIR.modalities[1], torch.full((4, 3), -1))]
    absent = available.clone()
    absent[:, 1] = False
    assert torch.equal(method(tokens, absent).logits, method(unknown, available).logits)


def _reports_see_the_image(method: AttributeFusion) -> bool:
    tokens, available = everything(PAIR, 4)
    other = [replace(tokens[0], values=tokens[0].values + 1), tokens[1]]
    return not torch.equal(*(fused(method.eval(), each, available)[1] for each in (tokens, other)))


def test_reports_see_the_image_through_the_intermediate_token_alone() -> None:
    class Severed(IntermediateToken):
        def exchange(self, copies: Sequence[Tensor], present: Tensor) -> Tensor:
            return torch.zeros_like(copies[0])

    method = build()
    assert _reports_see_the_image(method)
    method.fusion = Severed([False, True], PAIR, AlignedFusionConfig())
    assert not _reports_see_the_image(method)
    assert not _reports_see_the_image(build(n_layers=1))
    assert not _reports_see_the_image(build(it_update="last"))


def test_the_intermediate_token_is_the_mean_over_the_present_sets() -> None:
    fusion = intermediate(build(TASKS["two images and table"]))
    copies = [torch.full((2, 1, 8), value) for value in (1.0, 2.0, 6.0)]
    present = torch.tensor([[True, True, True], [False, True, True]])
    shared = fusion.exchange(copies, present)
    assert shared.shape == (2, 1, 8)
    assert shared[:, 0, 0].tolist() == [3.0, 4.0]


def test_an_absent_image_is_replaced_by_its_learned_vector() -> None:
    method, (tokens, available) = build().eval(), everything(PAIR, 2)
    available[1, 0] = False
    sets, there = method.read(tokens, available)
    there[1] = torch.ones_like(there[1])
    fusion = intermediate(method)
    _, vector = fusion.classify(sets, there)
    means = torch.cat([fusion.absent["0"], sets[1][1].mean(0)])
    torch.testing.assert_close(vector[1], torch.nn.functional.gelu(fusion.hidden(means)))


def test_a_reconstructed_token_lies_between_the_values_tokens() -> None:
    spec = table(n_codes=(2, 3))
    heads, token_set = Reconstruction(spec, 8), TokenSet(spec, 8)
    guess = heads(torch.randn(5, 2, 8))
    assert guess[:, 0].softmax(-1)[:, 2].abs().max() == 0.0
    made = heads.tokens(guess, token_set)
    first, second, *rest = token_set.project(heads.values)
    share = guess[:, 0].softmax(-1)[:, :1]
    torch.testing.assert_close(made[:, 0], share * first + (1 - share) * second)
    corners = torch.stack(rest)
    assert (made[:, 1] <= corners.amax(0) + 1e-6).all()
    assert (made[:, 1] >= corners.amin(0) - 1e-6).all()


def test_frozen_value_vectors_take_the_place_of_learned_ones() -> None:
    vectors = torch.randn(9, 5)
    heads = Reconstruction(table(value_tokens=vectors), 8)
    assert {name for name, _ in heads.named_parameters()} == {"linear.weight", "linear.bias"}
    assert torch.equal(heads.values, vectors)
    assert "values" not in heads.state_dict()
    with pytest.raises(ValueError, match=r"must be \(9, 5\)"):
        Reconstruction(table(value_tokens=vectors[:4]), 8)


def test_a_token_is_the_mean_of_its_attributes_valid_slots() -> None:
    spec = table(n_codes=(2, 2), slots=3)
    token_set = TokenSet(spec, 8)
    values = torch.randn(1, 6, 5)
    valid = torch.tensor([[True, False, True, False, False, False]])
    x, seen = token_set(values, valid)
    assert seen.tolist() == [[True, False]]
    torch.testing.assert_close(x[0, 0], token_set.project((values[0, 0] + values[0, 2]) / 2))
    whole, seen = TokenSet(spec, 8, by_attribute=False)(values, valid)
    assert whole.shape == (1, 1, 8)
    assert seen.all()


def test_permuted_attributes_with_permuted_heads_give_the_same_logits() -> None:
    order = torch.tensor([2, 0, 1])
    spec, moved = table(n_codes=(2, 3, 4)), table(n_codes=(4, 2, 3))
    method, other = build(make_task(image(), spec)), build(make_task(image(), moved))
    rows = torch.tensor([5, 6, 7, 8, 0, 1, 2, 3, 4])  # of the values, in the other order
    state = method.state_dict()
    for name in ("linear.weight", "linear.bias", "values"):
        state[f"reconstructions.1.{name}"] = state[f"reconstructions.1.{name}"][rows]
    other.load_state_dict(state)
    tokens = make_tokens(PAIR, 6)
    swapped = replace(
        tokens[1],
        values=tokens[1].values[:, order],
        valid=tokens[1].valid[:, order],
        codes=tokens[1].codes[:, order],
    )
    available = torch.ones(6, 2, dtype=torch.bool)
    first = method.eval()(tokens, available).logits
    second = other.eval()([tokens[0], swapped], available).logits
    torch.testing.assert_close(first, second)


def _formula(d: int, c_image: int, n_codes: tuple[int, ...], n_layers: int, k: int) -> int:
    projections = c_image * d + d + 768 * d + d + 4 * d
    attention = 2 * n_layers * (12 * d * d + 13 * d)
    heads = sum(d * n + n for n in n_codes)
    return projections + attention + 2 * d + heads + 2 * d * d + d + d * k + k


@pytest.mark.parametrize("d_model", [32, 256])
def test_the_default_has_the_parameters_of_the_formula(d_model: int) -> None:
    n_codes = (2, 5, 7)
    report = table("report", n_codes, 768, value_tokens=torch.zeros(14, 768))
    task = make_task(image("image", 49, 60), report, n_classes=5, d_model=d_model)
    method = build(task)
    absent_image = d_model  # a learned vector that the formula leaves out
    assert n_parameters(method) == _formula(d_model, 60, n_codes, 2, 5) + absent_image
    learned = replace(report, value_tokens=None)
    assert (
        n_parameters(build(make_task(task.modalities[0], learned, n_classes=5, d_model=d_model)))
        == n_parameters(method) + 14 * 768
    )
    attention = sum(p.numel() for p in intermediate(method).stacks.parameters())
    assert attention == 4 * (12 * d_model**2 + 13 * d_model)


def test_attention_at_width_256_has_the_published_size() -> None:
    stacks = intermediate(build(make_task(image(), table(), d_model=256))).stacks
    assert sum(p.numel() for p in stacks.parameters()) == 3_159_040


SETTINGS = (
    PLUGIN.ablations
    | PLUGIN.presets
    | {"mse": {"rec_target": "mse"}, "cosine": {"rec_target": "cosine"}}
)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_every_parameter_learns_in_some_pattern(settings: dict) -> None:
    task = TASKS["two images and table"]
    method = build(task, p_drop=0.0, **settings)
    observed = patterns(3).repeat(4, 1)
    tokens = make_tokens(task, len(observed), p_attribute=0.6)
    terms = method.losses(tokens, observed, torch.arange(28) % 2, make_progress())
    assert all(term.isfinite() for term in terms.values())
    total(terms).backward()
    assert gradient_names(method) == {name for name, _ in method.named_parameters()}


def test_a_removed_part_takes_its_parameters_along() -> None:
    names = {name for name, _ in build(intermediate_token=False).named_parameters()}
    assert not any(name.startswith(("fusion.token", "fusion.absent")) for name in names)
    assert not list(build(reconstruct=False).reconstructions.parameters())
    assert "reconstructions.1.values" not in build(second_pass=False).state_dict()
    only = build(image_only=True)
    assert not hasattr(only, "unknown")
    assert len(only.sets) == 1


def test_image_only_does_not_read_the_table() -> None:
    method, (tokens, available) = build(image_only=True).eval(), everything(PAIR, 4)
    other = make_tokens(PAIR, 4)[1]
    first = method(tokens, available).logits
    assert torch.equal(first, method([tokens[0], other], available).logits)
    without = method(tokens, torch.tensor([[False, True]] * 4)).logits
    assert torch.equal(without, without[:1].expand(4, -1))
    with pytest.raises(NotApplicable, match="image_only"):
        build(TASKS["tables alone"], image_only=True)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to reconstruct"):
        AlignedFusionConfig(attribute_tokens=False)
    with pytest.raises(ValueError, match="needs the intermediate token"):
        AlignedFusionConfig(image_only=True, intermediate_token=False)
    with pytest.raises(BadConfig, match="heads must divide the width 8, got 3"):
        build(heads=3)


def test_a_row_without_modalities_is_refused() -> None:
    tokens, available = everything(PAIR, 2)
    with pytest.raises(ValueError, match="at least one available modality"):
        build()(tokens, available & torch.tensor([[True], [False]]))


def test_one_row_gives_the_same_logits_as_in_its_batch() -> None:
    method = build(TASKS["two images and table"]).eval()
    available = patterns(3)
    tokens = make_tokens(TASKS["two images and table"], 7)
    together = method(tokens, available).logits
    for row in range(7):
        index = torch.tensor([row])
        alone = method([each.rows(index) for each in tokens], available[index]).logits
        torch.testing.assert_close(alone, together[index], rtol=0, atol=1e-5)


def test_inference_without_gradients_gives_the_same_logits() -> None:
    method, available = build().eval(), patterns(2)
    tokens = make_tokens(PAIR, 3)
    logits = method(tokens, available).logits.detach()
    with torch.inference_mode():
        torch.testing.assert_close(method(tokens, available).logits, logits, rtol=0, atol=1e-5)


def test_saved_weights_give_the_same_logits_and_same_seed_the_same_losses() -> None:
    method, other = build(p_drop=0.0), build(p_drop=0.0)
    tokens, available = everything(PAIR, 6)
    other.load_state_dict(method.state_dict())
    assert torch.equal(method(tokens, available).logits, other(tokens, available).logits)
    first, second = (
        each.losses(tokens, available, torch.arange(6) % 2, make_progress(seed=5))
        for each in (method, other)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def _linked_table(n_rows: int) -> tuple[Task, list[Tokens], Tensor]:
    """Attribute 0 equals attribute 1; its values occur in shares of 1/2, 1/4 and 1/4."""
    task = make_task(image(), table(n_codes=(3, 3)), d_model=16)
    value = torch.tensor([0, 0, 1, 2]).repeat(n_rows // 4)
    tokens, available = everything(task, n_rows)
    tokens[1] = table_tokens(task.modalities[1], torch.stack([value, value], dim=1))
    return task, tokens, available


@pytest.mark.parametrize("settings", [{}, {"intermediate_token": False}], ids=["IT", "joint"])
def test_trained_reconstruction_beats_the_most_frequent_value(settings: dict) -> None:
    task, tokens, available = _linked_table(64)
    method = build(task, p_drop=0.0, **settings)
    label = torch.arange(64) % 2
    history = train(method, tokens, available, label, make_progress(), steps=30)
    x, visible = method.eval().read(tokens, available)
    visible[1][:, 0] = False
    _, guesses = method.fuse(x, visible, available)
    accuracy = (guesses[1][:, 0].argmax(-1) == tokens[1].codes[:, 0]).float().mean()
    assert float(accuracy) > 0.9
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]


@pytest.mark.parametrize("target", ["soft_label", "mse", "cosine"])
def test_loss_falls_in_training(target: str) -> None:
    tokens, available = everything(PAIR, 32)
    label = (tokens[1].codes[:, 0] == 1).long()
    method = build(rec_target=target)
    history = train(method, tokens, available, label, make_progress(), steps=30)
    assert history[-1]["task"] < 0.7 * history[0]["task"]
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]


def test_a_modality_absent_from_a_whole_batch_gives_finite_losses_and_no_gradient() -> None:
    tokens, _ = everything(PAIR, 4)
    observed = torch.tensor([[True, False]] * 4)
    method = build(p_drop=0.0)
    tokens[1].values.requires_grad_()
    terms = method.losses(tokens, observed, torch.arange(4) % 2, make_progress())
    total(terms).backward()
    assert all(term.isfinite() for term in terms.values())
    assert tokens[1].values.grad is None or not tokens[1].values.grad.any()


def test_the_dropout_law_names_masks_and_modalities() -> None:
    law: Callable[..., str] = PLUGIN.dropout_law
    assert law(AlignedFusionConfig()) == "none, attributes masked at 0.3"
    assert law(AlignedFusionConfig(dropout="uniform", reconstruct=False)) == "uniform"
