"""FusionM4Net: its branches, its two searches, its support vector machine as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC
from torch import Tensor

from bench.data import Task, Tokens, TokenSpec
from bench.layers.late_fusion import best_weights, fuse, renormalised, weight_grid
from bench.layers.one_hot import ReportCode
from bench.layers.support_vector import SupportVectorMachine
from bench.method import EncodedPart, Progress
from bench.methods.fusionm4net import PLUGIN, FusionM4Net, FusionM4NetConfig, later_half
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
)

TASK = make_task(image("a"), image("b"), table())
SMALL = {"widths": (16, 8)}


def build(task: Task = TASK, **settings: Any) -> FusionM4Net:
    return FusionM4Net(task, FusionM4NetConfig(**SMALL | settings))


def image_tokens(values: Tensor) -> Tokens:
    """Make one token per row out of (B, C)."""
    none = torch.zeros(len(values), 0)
    valid = torch.ones(len(values), 1, dtype=torch.bool)
    return Tokens(values[:, None], valid, torch.tensor([-1]), none.long(), none)


def telling_part(task: Task, n: int, *, which: int, seed: int) -> EncodedPart:
    """Make cases of two pictures and a table of which only one modality tells the label."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 2
    pictures = [torch.randn(n, spec.d_token, generator=generator) for spec in task.modalities[:2]]
    codes = torch.randint(0, 2, (n, 1), generator=generator)
    if which < 2:
        pictures[which] += 3.0 * label[:, None]
    else:
        codes = label[:, None]
    tokens = (*map(image_tokens, pictures), table_tokens(task.modalities[2], codes))
    return EncodedPart(tokens, torch.ones(n, 3, dtype=torch.bool), label)


def telling_task() -> Task:
    return make_task(image("a", 1, 3), image("b", 1, 3), table("t", (2,)))


def trained(part: EncodedPart, task: Task, steps: int = 30, **settings: Any) -> FusionM4Net:
    method = build(task, p_drop=0.0, **settings)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(steps):
        terms = method.losses(part.tokens, part.observed, part.label, make_progress())
        optimiser.zero_grad()
        total(terms).backward()
        optimiser.step()
    return method.eval()


@torch.no_grad()
def calibrated(which: int, **settings: Any) -> tuple[FusionM4Net, EncodedPart]:
    task = telling_task()
    train = telling_part(task, 80, which=which, seed=1)
    valid = telling_part(task, 60, which=which, seed=2)
    with torch.enable_grad():
        method = trained(train, task, **settings)
    method.calibrate(train, valid)
    return method, valid


def accuracy(method: FusionM4Net, part: EncodedPart, available: Tensor) -> float:
    logits = method(part.tokens, available).logits
    return float((logits.argmax(1) == part.label).float().mean())


def test_stage_1_is_as_large_as_published_for_two_pictures_and_24_outputs() -> None:
    one_branch = 2048 * 512 + 512 + 2 * 512 + 512 * 128 + 128 + 2 * 128 + 24 * 128 + 24
    task = make_task(image("clinical", 49, 2048), image("dermoscopic", 49, 2048), n_classes=24)
    with torch.device("meta"):
        method = FusionM4Net(task, FusionM4NetConfig.model_validate({}))
    assert one_branch == 1_119_128
    assert n_parameters(method) == 3 * one_branch == 3_357_384


def test_p1_is_the_softmax_of_the_weighted_logits() -> None:
    logits = torch.tensor([[[2.0, 0.0], [0.0, 4.0]]])
    there = torch.ones(1, 2, dtype=torch.bool)
    by_hand = torch.tensor([0.75 * 2.0, 0.25 * 4.0]).softmax(0)
    torch.testing.assert_close(fuse(logits, there, torch.tensor([0.75, 0.25]))[0], by_hand)


def test_branch_weights_of_what_is_there_sum_to_one() -> None:
    weights = torch.tensor([0.6, 0.0, 0.4])
    there = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0]]).bool()
    share = renormalised(there, weights)
    torch.testing.assert_close(share.sum(1), torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(share[0], weights)
    assert share[1].tolist() == [1, 0, 0]
    assert share[2].tolist() == [0, 0, 1]
    assert share[3].tolist() == [0, 1, 0]  # a branch of weight 0 that is alone counts


def test_absent_branches_are_not_read_and_a_row_without_any_is_zero() -> None:
    logits = torch.tensor([[[1.0, 0.0], [float("nan")] * 2]] * 2)
    there = torch.tensor([[True, False], [False, False]])
    proba = fuse(logits, there, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(proba[0], torch.tensor([1.0, 0.0]).softmax(0))
    assert proba[1].tolist() == [0, 0]


def test_the_grid_has_all_weights_of_step_a_tenth_and_begins_near_equal() -> None:
    grid = list(weight_grid(3, 10))
    assert len(set(grid)) == len(grid) == 66
    assert all(sum(weights) == pytest.approx(1) for weights in grid)
    assert sorted(grid[0]) == [0.3, 0.3, 0.4]
    assert sorted(grid[-1]) == [0, 0, 1]
    assert list(weight_grid(1, 10)) == [(1.0,)]


def test_the_later_half_is_taken_within_each_class() -> None:
    label = torch.tensor([0, 0, 1, 0, 1, 0, 1])
    assert later_half(label).tolist() == [3, 4, 5, 6]


def test_report_is_one_hot_with_zeros_for_what_is_not_observed() -> None:
    spec = table("t", (2, 3))
    report = ReportCode(make_task(image(), spec))
    codes = torch.tensor([[1, 2], [-1, 0], [0, 1]])
    tokens = [image_tokens(torch.zeros(3, 6)), table_tokens(spec, codes)]
    available = torch.tensor([[True, True], [True, True], [True, False]])
    assert report(tokens, available).tolist() == [[0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0] * 5]


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_arrays_predict_as_scikit_learn_does(n_classes: int) -> None:
    draw = np.random.default_rng(n_classes)
    label = np.arange(60) % n_classes
    features = draw.normal(size=(60, 5)) + label[:, None] * 0.7
    gamma = 1 / (5 * features.var())
    reference = CalibratedClassifierCV(SVC(C=2.0, gamma=gamma), ensemble=False)
    reference.fit(features, label)
    machine = SupportVectorMachine(n_classes)
    machine.fit(features, label, 2.0)
    new = draw.normal(size=(40, 5)) + 1.0
    expected = reference.predict_proba(new)
    np.testing.assert_allclose(machine(torch.tensor(new)), expected, rtol=1e-9, atol=1e-12)
    decision = reference.calibrated_classifiers_[0].estimator.decision_function(new)
    ours = machine.decision(torch.tensor(new)).squeeze(1)
    np.testing.assert_allclose(ours, decision, rtol=1e-9, atol=1e-12)


def test_a_class_with_one_case_gets_probability_zero() -> None:
    label = np.array([0, 0, 0, 2, 2, 2, 1])
    machine = SupportVectorMachine(4)
    features = np.random.default_rng(0).normal(size=(7, 3)) + label[:, None]
    machine.fit(features, label, 1.0)
    proba = machine(torch.tensor(features))
    assert machine.classes.tolist() == [0, 2]
    assert not proba[:, [1, 3]].any()
    torch.testing.assert_close(proba.sum(1), torch.ones(7).double())


def test_one_class_leaves_the_machine_unfitted_with_equal_probabilities() -> None:
    machine = SupportVectorMachine(4)
    machine.fit(np.random.default_rng(0).normal(size=(6, 3)), np.zeros(6, int), 1.0)
    assert not machine.is_fitted
    assert machine(torch.zeros(2, 3).double()).tolist() == [[0.25] * 4] * 2


def test_constant_features_are_fitted_finitely() -> None:
    machine = SupportVectorMachine(2)
    machine.fit(np.ones((8, 3)), np.arange(8) % 2, 1.0)
    assert machine(torch.ones(2, 3).double()).isfinite().all()


def test_the_search_turns_from_branches_that_mislead_by_as_little_as_it_needs() -> None:
    label = torch.tensor([0, 1, 0, 1])
    right = 2.0 * torch.nn.functional.one_hot(label, 2)
    logits = torch.stack([right, right.flip(1), right.flip(1)], dim=1)  # (B, N, K)
    there = torch.ones(4, 3, dtype=torch.bool)
    weights = best_weights(logits, there, label, n_steps=10)
    torch.testing.assert_close(weights, torch.tensor([0.6, 0.2, 0.2]))


def test_the_searched_weights_beat_the_starting_ones_on_validation() -> None:
    method, valid = calibrated(1, steps=6)
    logits, there, _ = method.branch_logits(valid.tokens, valid.observed)

    def n_correct(weights: Tensor) -> int:
        return int((fuse(logits, there, weights).argmax(1) == valid.label).sum())

    start = build(telling_task()).weights
    best = max(n_correct(torch.tensor(weights)) for weights in weight_grid(3, 10))
    assert n_correct(method.weights) == best > n_correct(start)
    assert method.weights[1] > method.weights[0]  # picture b tells, a is noise


def test_the_share_turns_to_the_machine_when_the_table_tells() -> None:
    method, valid = calibrated(2)
    assert method.share < 1
    assert accuracy(method, valid, valid.observed) == 1.0
    without_table = valid.observed & torch.tensor([True, True, False])
    assert accuracy(method, valid, without_table) < 0.8


def test_p3_at_a_share_of_one_is_p1() -> None:
    method, valid = calibrated(0)
    logits, there, _ = method.branch_logits(valid.tokens, valid.observed)
    method.share.fill_(1.0)
    expected = fuse(logits, there, method.weights)
    torch.testing.assert_close(method(valid.tokens, valid.observed).logits.exp(), expected)


def test_a_case_without_a_picture_gets_the_machine_with_zeros_for_p1() -> None:
    method, valid = calibrated(2)
    available = valid.observed & torch.tensor([False, False, True])
    assert method.svm is not None
    zeros = torch.zeros(60, 2).double()
    features = torch.cat([zeros, method.report(valid.tokens, available)], dim=1)
    proba = method(valid.tokens, available).logits.exp()
    torch.testing.assert_close(proba, method.svm(features).float())
    assert accuracy(method, valid, available) == 1.0


def test_a_fresh_model_takes_the_arrays_of_a_saved_one() -> None:
    method, valid = calibrated(2)
    fresh = build(telling_task()).eval()
    fresh.load_state_dict(method.state_dict())
    for pattern in patterns(3):
        available = pattern.repeat(60, 1)
        expected = method(valid.tokens, available).logits
        assert torch.equal(fresh(valid.tokens, available).logits, expected)


def test_an_unfitted_state_empties_a_fitted_machine() -> None:
    method, _ = calibrated(2)
    method.load_state_dict(build(telling_task()).state_dict())
    assert method.svm is not None
    assert not method.svm.is_fitted


def test_without_a_table_there_is_no_machine() -> None:
    task = make_task(image("a"), image("b", 3))
    method = build(task)
    tokens, observed = make_tokens(task, 12), torch.ones(12, 2, dtype=torch.bool)
    part = EncodedPart(tuple(tokens), observed, torch.arange(12) % 2)
    with torch.no_grad():
        method.eval().calibrate(part, part)
    logits, there, _ = method.branch_logits(tokens, observed)
    assert method.svm is None
    expected = fuse(logits, there, method.weights)
    torch.testing.assert_close(method(tokens, observed).logits.exp(), expected)


def test_tables_alone_are_refused_with_the_reason() -> None:
    assert "needs a modality of kind image" in PLUGIN.capabilities.refusal(["table", "table"])
    assert PLUGIN.capabilities.refusal(["vector"]) == ""


def test_a_single_picture_in_a_batch_leaves_the_running_statistics() -> None:
    method, tokens = build().train(), make_tokens(TASK, 6)
    observed = torch.tensor([[False, True, True]] * 5 + [[True, True, False]])
    before = {name: x.clone() for name, x in method.named_buffers() if name.startswith("branches")}
    terms = method.losses(tokens, observed, torch.arange(6) % 2, make_progress())
    total(terms).backward()
    after = dict(method.named_buffers())
    changed = {name.split(".")[1] for name, x in before.items() if not torch.equal(x, after[name])}
    assert changed == {"1", "2"}  # the picture of one case took running statistics
    assert any(name.startswith("branches.0.") for name in gradient_names(method))


def test_a_batch_without_any_picture_has_a_loss_of_zero_and_gradients() -> None:
    method, tokens = build().train(), make_tokens(TASK, 4)
    observed = torch.tensor([[False, False, True]] * 4)
    terms = method.losses(tokens, observed, torch.arange(4) % 2, make_progress())
    total(terms).backward()
    assert total(terms).item() == 0.0


def test_losses_count_the_rows_that_have_the_picture_and_the_class_weights() -> None:
    method = build(p_drop=0.0).eval()
    tokens, label = make_tokens(TASK, 4), torch.tensor([0, 1, 1, 0])
    observed = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]]).bool()
    weight = torch.tensor([1.0, 3.0])
    progress = Progress("train", 0, 0, 1, torch.Generator(), class_weight=weight)
    terms = method.losses(tokens, observed, label, progress)
    logits, _, _ = method.branch_logits(tokens, observed)
    surprise = -logits.log_softmax(2)[torch.arange(4), :, label]  # (B, N)
    by_hand = 0.33 * (1.0 * surprise[0, 0] + 3.0 * surprise[1, 0]) / 2
    torch.testing.assert_close(terms["ce_a"], by_hand)
    fusion = 0.33 * (surprise[0, 2] + 3 * surprise[1, 2] + 3 * surprise[2, 2]) / 3
    torch.testing.assert_close(terms["ce_fusion"], fusion)


def test_fusion_branch_reads_the_sum_of_the_available_pictures() -> None:
    method, tokens = build().eval(), make_tokens(TASK, 2, p_token=1.0)
    available = torch.tensor([[True, True, False], [False, True, False]])
    _, there, fused = method.branch_logits(tokens, available)
    means = [each.values.mean(1) for each in tokens[:2]]
    torch.testing.assert_close(fused[0], means[0][0] + means[1][0])
    torch.testing.assert_close(fused[1], means[1][1])
    assert there.tolist() == [[True, True, True], [False, True, True]]


def test_pictures_of_unlike_width_are_brought_to_one() -> None:
    wide = TokenSpec("v", "vector", 1, 9)
    method = build(make_task(image("a"), wide, d_model=8))
    assert {branch.get_submodule("0").in_features for branch in method.branches} == {8}
    assert [len(list(each.parameters())) for each in method.align] == [2, 2]
    assert {branch.get_submodule("0").in_features for branch in build().branches} == {6}


@pytest.mark.parametrize("settings", [{}, *PLUGIN.ablations.values()])
def test_content_of_what_is_absent_has_no_influence(settings: dict[str, Any]) -> None:
    method = build(**settings).eval()
    train = make_tokens(TASK, 30)
    part = EncodedPart(tuple(train), patterns(3).repeat(5, 1)[:30], torch.arange(30) % 2)
    with torch.no_grad():
        method.calibrate(part, part)
        tokens, available = make_tokens(TASK, 7), patterns(3)
        expected = method(tokens, available).logits
        for content in (float("nan"), 1e6):
            spoilt = polluted(tokens, available, content)
            assert torch.equal(method(spoilt, available).logits, expected)
    assert expected.isfinite().all()


def test_ablations_leave_their_part_out() -> None:
    without_machine = build(**PLUGIN.ablations["w/o SVM"])
    without_branches = build(**PLUGIN.ablations["w/o branches"])
    assert without_machine.svm is None
    assert len(without_branches.branches) == 1
    terms = without_branches.losses(
        make_tokens(TASK, 4), torch.ones(4, 3).bool(), torch.zeros(4).long(), make_progress()
    )
    assert list(terms) == ["ce_fusion"]


def test_a_row_without_any_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one available"):
        build()(make_tokens(TASK, 2), torch.tensor([[True, False, True], [False] * 3]))


def test_search_space_gives_valid_configurations() -> None:
    FusionM4NetConfig.model_validate(PLUGIN.search_space(optuna.create_study().ask()))


def test_dropout_law_is_told() -> None:
    own, uniform = (FusionM4NetConfig.model_validate(each) for each in ({}, {"dropout": "uniform"}))
    assert PLUGIN.dropout_law(own) == "none"
    assert PLUGIN.dropout_law(uniform).startswith("uniform")
