"""SimMLM against its reference numbers, its formulas and what it promises."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data import Task
from bench.layers.experts import mix_by_case
from bench.layers.nested_pairs import more_vs_fewer, nested_pair
from bench.method import Progress
from bench.methods.simmlm import PLUGIN, SimMLM, SimMLMConfig
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
    total,
    train,
)

TASK = make_task(image("clinical"), image("dermoscopic", 3, 7), table("table"), n_classes=3)
SWIN_T = 27_519_354


def build(task: Task = TASK, **settings: Any) -> SimMLM:
    return SimMLM(task, SimMLMConfig(**settings))


def joint() -> Progress:
    return make_progress("joint")


def names_of(more: Tensor, fewer: Tensor) -> list[str]:
    return ["".join(map(str, row)) for row in torch.cat([more, fewer], 1).int().tolist()]


@pytest.mark.parametrize("m", [2, 3, 4])
def test_pairs_follow_the_law_of_the_official_sampler(shared: Path, m: int) -> None:
    law = np.load(shared / "golden" / "simmlm_pair_sampling_law.npz")
    keys = names_of(torch.tensor(law[f"more_M{m}"]), torch.tensor(law[f"fewer_M{m}"]))
    expected = dict(zip(keys, law[f"prob_M{m}"].tolist(), strict=True))

    generator = torch.Generator().manual_seed(3)
    full = torch.ones(4000, m, dtype=torch.bool)
    drawn = [name for _ in range(10) for name in names_of(*nested_pair(full, generator))]

    assert set(drawn) <= set(expected)
    for name, probability in expected.items():
        assert drawn.count(name) / len(drawn) == pytest.approx(probability, abs=0.01)


def test_pairs_lie_inside_the_observed_and_one_modality_gives_no_pair() -> None:
    observed = patterns(4).repeat(40, 1)
    more, fewer = nested_pair(observed, torch.Generator().manual_seed(0))
    assert not (more & ~observed).any()
    assert not (fewer & ~more).any()
    assert fewer.any(1).all()
    single = observed.sum(1) == 1
    assert torch.equal(more[single], fewer[single])
    assert torch.equal(more[single], observed[single])
    assert (more[~single] != fewer[~single]).any(1).all()


def test_pairs_of_two_modalities_inside_three_follow_the_law_of_two() -> None:
    observed = torch.tensor([[True, False, True]]).expand(4000, 3)
    more, fewer = nested_pair(observed, torch.Generator().manual_seed(0))
    assert torch.equal(more, observed)
    assert (fewer.sum(1) == 1).all()
    assert float(fewer[:, 0].float().mean()) == pytest.approx(0.5, abs=0.03)


def test_mixing_agrees_with_the_official_gate(shared: Path) -> None:
    golden = {
        name: torch.tensor(array)
        for name, array in np.load(shared / "golden" / "simmlm_dmome_output_level_gate.npz").items()
    }
    for k in range(2):  # the official gate has one softmax per class
        voxels = golden["expert_out_crop"][:, :, k].flatten(2)
        mixed, weights = mix_by_case(golden["router_raw"][:, :, k], voxels, golden["present"])
        torch.testing.assert_close(weights, golden["weights"][:, :, k], rtol=1e-5, atol=1e-5)
        expected = golden["mixed_crop"][:, k].flatten(1)
        torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-5)


def test_pair_loss_and_its_gradients_agree_with_the_reference(shared: Path) -> None:
    golden = {
        name: torch.tensor(array)
        for name, array in np.load(
            shared / "golden" / "simmlm_mofe_classification_formula.npz"
        ).items()
    }
    names = ("expert_W", "expert_b", "gate_W", "gate_b")
    weight = {name: golden[name].requires_grad_() for name in names}
    experts = torch.einsum("bmd,mkd->bmk", golden["pooled"], weight["expert_W"])
    experts = experts + weight["expert_b"]

    def cross_entropy(available: Tensor, kind: str) -> Tensor:
        seen = (golden["pooled"] * available[..., None]).flatten(1)
        logits, weights = mix_by_case(
            seen @ weight["gate_W"].T + weight["gate_b"], experts, available
        )
        torch.testing.assert_close(weights, golden[f"w_{kind}"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits, golden[f"logits_{kind}"], rtol=1e-5, atol=1e-5)
        return torch.nn.functional.cross_entropy(logits, golden["label"], reduction="none")

    more, fewer = golden["more"], golden["fewer"]
    ce = cross_entropy(more, "more"), cross_entropy(fewer, "fewer")
    paired = (more != fewer).any(1)
    task, ranking = more_vs_fewer(*ce, paired, hinge="sample")
    total = task + float(golden["lam"]) * ranking
    total.backward()

    assert float(ranking.detach()) == pytest.approx(float(golden["mofe_mean"]), rel=1e-5)
    assert float(total.detach()) == pytest.approx(float(golden["total"]), rel=1e-5)
    _, batch = more_vs_fewer(*ce, paired, hinge="batch")
    assert float(batch.detach()) == pytest.approx(float(golden["mofe_batch_level"]), rel=1e-4)
    for name in names:
        expected = golden[f"grad_{name}"]
        torch.testing.assert_close(weight[name].grad, expected, rtol=1e-5, atol=1e-5)


def test_pair_loss_by_hand() -> None:
    ce_more, ce_fewer = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([2.0, 1.0, 2.0])
    paired = torch.tensor([True, True, False])
    task, ranking = more_vs_fewer(ce_more, ce_fewer, paired, hinge="sample")
    assert float(task) == pytest.approx((1 + 2 + 3 + 1 + 2) / 3)
    assert float(ranking) == pytest.approx(2 / 3)
    _, batch = more_vs_fewer(ce_more, ce_fewer, paired, hinge="batch")
    assert float(batch) == pytest.approx(2 - 5 / 3)


def test_weights_sum_to_one_and_are_zero_where_absent() -> None:
    available = patterns(3)
    method = build().eval()
    weights = method(make_tokens(TASK, 7), available).representations["weights"]
    assert (weights[~available] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(7))


@pytest.mark.parametrize("mixing", ["logits", "features"])
def test_one_modality_gives_its_expert_exactly(mixing: str) -> None:
    method = build(mixing=mixing).eval()
    tokens = make_tokens(TASK, 3)
    prediction = method(tokens, torch.eye(3, dtype=torch.bool))
    experts = prediction.representations["expert_logits"]
    assert torch.equal(prediction.logits, experts[torch.arange(3), torch.arange(3)])


def test_mixing_features_equals_mixing_logits_with_one_last_layer() -> None:
    method = build(mixing="features").eval()
    tokens, available = make_tokens(TASK, 7), patterns(3)
    prediction = method(tokens, available)
    _, pooled, _ = method.run_experts(tokens, available)
    hidden = torch.stack([expert(pooled[:, m]) for m, expert in enumerate(method.experts)], 1)
    mixed = (prediction.representations["weights"][..., None] * hidden).sum(1)
    torch.testing.assert_close(method.heads[0](mixed), prediction.logits)


@pytest.mark.parametrize("gate_input", ["shared", "own"])
def test_absent_content_changes_neither_logits_nor_gradients(gate_input: str) -> None:
    available = patterns(3)
    method = build(gate_input=gate_input, p_drop=0.0)
    tokens, label = make_tokens(TASK, 7), torch.arange(7) % 3
    found = []
    for content in (0.0, 7.0, float("nan")):
        method.zero_grad()
        dirty = polluted(tokens, available, content)
        total(method.losses(dirty, available, label, joint())).backward()
        gradients = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
        gradient = torch.cat(gradients)
        found.append((method(dirty, available).logits, gradient))
    for logits, gradient in found[1:]:
        assert torch.equal(logits, found[0][0])
        assert torch.equal(gradient, found[0][1])
    assert found[0][1].isfinite().all()


def test_a_row_without_modalities_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one available modality"):
        build()(make_tokens(TASK, 2), torch.tensor([[True, True, True], [False, False, False]]))


@pytest.mark.parametrize(
    ("d_model", "n_classes", "expected"), [(128, 2, 82_889), (256, 2, 329_609), (256, 8, 331_931)]
)
def test_heads_and_gate_have_the_parameters_of_the_formula(
    d_model: int, n_classes: int, expected: int
) -> None:
    task = make_task(image("a"), image("b"), table(), n_classes=n_classes, d_model=d_model)
    method = build(task)
    projections = sum(p.numel() for p in method.projection.parameters())
    assert projections == sum(s.d_token * d_model + d_model for s in task.modalities)
    assert n_parameters(method) - projections == expected


def test_the_table4_preset_has_the_published_number_of_parameters() -> None:
    task = make_task(
        image("clinical", 49, 768),
        image("dermoscopic", 49, 768),
        table("t", (2,), 1536),
        d_model=256,
    )
    assert n_parameters(build(task, **PLUGIN.presets["table4"])) + 3 * SWIN_T == 83_871_735
    assert n_parameters(build(task)) + 2 * SWIN_T == 56_155_517
    assert n_parameters(build(task)) + SWIN_T == 28_636_163


def test_the_table4_preset_has_the_published_number_on_frozen_encoders() -> None:
    task = make_task(
        image("left", 1, 2048),
        image("right", 1, 2048),
        table("t", (2,), 1536),
        n_classes=3,
        d_model=256,
    )
    assert n_parameters(build(task, **PLUGIN.presets["table4"])) == 2_297_100


@pytest.mark.parametrize("settings", PLUGIN.ablations.values(), ids=list(PLUGIN.ablations))
def test_every_parameter_learns_in_some_stage(settings: dict) -> None:
    method = build(p_drop=0.0, **settings)
    tokens, label = make_tokens(TASK, 14), torch.arange(14) % 3
    observed = patterns(3).repeat(2, 1)
    learned = set()
    for stage in method.stages():
        method.zero_grad()
        losses = method.losses(tokens, observed, label, make_progress(stage.name))
        total(losses).backward()
        learned |= gradient_names(method)
    assert learned == {name for name, _ in method.named_parameters()}


def test_an_ablated_gate_has_no_parameters_but_its_constants() -> None:
    assert {n for n, _ in build(gate="static").gate.named_parameters()} == {"constant"}
    assert not list(build(gate="uniform").gate.parameters())
    assert not list(build(gate="uniform").parameter_groups())


def test_stages_are_one_expert_each_and_then_all_together() -> None:
    stages = build(expert_share=0.6).stages()
    names = [stage.name for stage in stages]
    assert names == ["expert clinical", "expert dermoscopic", "expert table", "joint"]
    assert [stage.share_of_epochs for stage in stages] == pytest.approx([0.2, 0.2, 0.2, 0.4])
    assert [stage.subset for stage in stages] == [(0,), (1,), (2,), None]
    observed = patterns(3).numpy()
    assert stages[1].cases is not None
    assert np.array_equal(stages[1].cases(observed), observed[:, 1])
    assert stages[-1].parameters == ()
    assert [stage.name for stage in build(expert_share=0.0).stages()] == ["joint"]


def test_encoders_are_separate_unless_told_otherwise() -> None:
    assert PLUGIN.separate_encoders(SimMLMConfig())
    named = tuple(
        replace(spec, encoder=f"encoders.own{m}.") for m, spec in enumerate(TASK.modalities)
    )
    method = SimMLM(replace(TASK, modalities=named), SimMLMConfig())
    assert [stage.parameters[:1] for stage in method.stages()] == [
        ("encoders.own0.",),
        ("encoders.own1.",),
        ("encoders.own2.",),
        (),
    ]
    shared = SimMLMConfig(**PLUGIN.presets["shared_encoder"])
    assert not PLUGIN.separate_encoders(shared)
    assert SimMLM(TASK, shared).stages()[0].parameters[0] == "encoders."


def test_an_expert_stage_trains_its_expert_alone() -> None:
    method = build(p_drop=0.0)
    tokens, observed = make_tokens(TASK, 14), patterns(3).repeat(2, 1)
    stage = method.stages()[1]
    before = copy.deepcopy(method.state_dict())
    history = train(
        method,
        tokens,
        observed,
        torch.arange(14) % 3,
        make_progress(stage.name),
        steps=20,
        prefixes=stage.parameters,
    )
    moved = {n for n, value in method.state_dict().items() if not torch.equal(value, before[n])}
    expected = {"projection.linear.1", "experts.1.0", "heads.1"}
    assert moved == {f"{layer}.{part}" for layer in expected for part in ("weight", "bias")}
    assert history[-1]["expert"] < history[0]["expert"]


def test_an_expert_stage_ignores_cases_without_its_modality() -> None:
    method = build(p_drop=0.0)
    tokens, label = make_tokens(TASK, 4), torch.tensor([0, 1, 2, 0])
    observed = torch.tensor([[True, True, True]] * 2 + [[True, False, True]] * 2)
    first = tuple(each.rows(torch.arange(2)) for each in tokens)
    progress = make_progress("expert dermoscopic")
    whole = method.losses(tokens, observed, label, progress)["expert"]
    alone = method.losses(first, observed[:2], label[:2], progress)["expert"]
    assert torch.allclose(whole, alone)
    nobody = method.losses(tokens, observed & ~torch.eye(3).bool()[1], label, progress)["expert"]
    assert float(nobody.detach()) == 0.0


def test_the_rank_loss_acts_in_training_and_lowers_the_violations() -> None:
    task = make_task(image("good"), image("noise"))
    tokens, label = make_tokens(task, 64), torch.arange(64) % 2
    tokens[0].values[:, 0, 0] = 2.0 * label - 1.0
    observed = torch.ones(64, 2, dtype=torch.bool)
    method = build(task, p_drop=0.0, lambda_rank=0.5)
    history = train(method, tokens, observed, label, joint(), steps=50, lr=3e-3)
    ranking = [row["ranking"] for row in history]
    assert max(ranking) > 0
    assert sum(ranking[-10:]) < sum(ranking[:10])
    assert history[-1]["task"] < history[0]["task"]


def test_the_gate_prefers_the_expert_that_knows() -> None:
    task = make_task(image("good"), image("noise"))
    tokens, label = make_tokens(task, 64), torch.arange(64) % 2
    tokens[0].values[:, 0, 0] = 4.0 * label - 2.0
    observed = torch.ones(64, 2, dtype=torch.bool)
    method = build(task, p_drop=0.0, gate="static")
    train(method, tokens, observed, label, joint(), steps=60)
    weights = method.eval()(tokens, observed).representations["weights"]
    assert (weights[:, 0] > 0.5).all()


def test_the_hinge_is_zero_without_pairs() -> None:
    method = build(p_drop=0.0)
    tokens, label = make_tokens(TASK, 3), torch.arange(3)
    observed = torch.ones(3, 3, dtype=torch.bool)
    ce = torch.nn.functional.cross_entropy(method(tokens, observed).logits, label)
    none = make_progress("joint", dropout="none")
    terms = method.losses(tokens, observed, label, none)
    assert float(terms["ranking"].detach()) == 0.0
    torch.testing.assert_close(terms["task"], ce)
    torch.testing.assert_close(method.eval().losses(tokens, observed, label, joint())["task"], ce)
    single = method.train().losses(tokens, torch.eye(3).bool(), label, joint())
    assert float(single["ranking"].detach()) == 0.0


def test_a_law_of_the_study_still_gives_nested_pairs() -> None:
    observed = patterns(3).repeat(20, 1)
    more, fewer = build().draw_pair(observed, make_progress("joint", dropout="uniform"))
    assert not (more & ~observed).any()
    assert not (fewer & ~more).any()
    assert fewer.any(1).all()
    assert (more != observed).any()


def test_same_seed_gives_the_same_losses() -> None:
    method = build(p_drop=0.0)
    tokens, observed = make_tokens(TASK, 14), patterns(3).repeat(2, 1)
    label = torch.arange(14) % 3
    first, second = (method.losses(tokens, observed, label, joint()) for _ in range(2))
    assert torch.equal(first["task"], second["task"])
    assert torch.equal(first["ranking"], second["ranking"])


def test_the_experts_rate_is_a_fraction_of_the_gates() -> None:
    method = build(expert_lr_factor=0.1)
    (group,) = method.parameter_groups()
    assert group.lr_factor == pytest.approx(10.0)
    assert list(group.parameters) == list(method.gate.parameters())
