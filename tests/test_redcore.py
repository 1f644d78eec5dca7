"""RedCore against its reference numbers, its formulas and what it promises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor, nn

from bench.data import Task, Tokens
from bench.errors import BadConfig
from bench.layers.classifiers import Classifier
from bench.layers.completion import regression
from bench.layers.generator import CodeGenerator, generate_from_others
from bench.layers.relative_advantage import RelativeAdvantage
from bench.layers.variational import TokenEncoder, divergence
from bench.method import Progress
from bench.methods.redcore import PLUGIN, RedCore, RedCoreConfig
from tests.toy_tokens import complete_tokens, n_parameters, patterns, vector_task

SWIN_T = 27_519_354
THREE_NNMAMBA = 10_252_848
SHAPES = ((5, 6), (3, 4), (1, 7))  # (T, C) of each modality
SMALL = {"n_layers": 1, "n_autoencoders": 2}


def make_progress(seed: int = 0) -> Progress:
    return Progress("train", 0, 0, 20, torch.Generator().manual_seed(seed))


def configure(**settings: Any) -> RedCoreConfig:
    return RedCoreConfig.model_validate(settings)


def build(task: Task, **settings: Any) -> RedCore:
    return RedCore(task, configure(**settings))


def load_renamed(module: nn.Module, arrays: Mapping[str, np.ndarray], rules: list[Any]) -> None:
    state = {}
    for key in [key for key in arrays if key.startswith("w.")]:
        name = key.removeprefix("w.")
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        state[name] = torch.tensor(arrays[key])
    module.load_state_dict({k: v for k, v in state.items() if not k.startswith("unused")})


def assert_close(ours: Tensor, reference: np.ndarray) -> None:
    torch.testing.assert_close(ours, torch.tensor(reference), rtol=1e-5, atol=1e-5)


def test_token_encoder_equals_the_official_one(shared: Path) -> None:
    arrays = dict(np.load(shared / "golden" / "redcore_vib_encoder.npz"))
    encoder = TokenEncoder(10, 16, n_heads=8, n_layers=3).eval()
    names = [("^proj", "embed"), ("^muvar", "code"), ("^attention_", "unused"), ("resb", "b")]
    names += [(r"\.attn\.", ".attention."), ("ln_12", "norm_b"), ("ln_1", "norm_a")]
    names += [("ln_22", "norm_d"), ("ln_2", "norm_c")]
    names += [(r"mlp\.c_fc", "feed_forward.0"), (r"mlp\.c_proj", "feed_forward.3")]
    load_renamed(encoder, arrays, names)
    x = torch.tensor(arrays["x"])
    code = encoder(x, torch.ones(x.shape[:2], dtype=torch.bool))
    mean, log_variance = code.chunk(2, -1)
    assert_close(mean, arrays["mu"])
    assert_close(log_variance, arrays["logvar"])
    assert_close(mean + torch.tensor(arrays["eps"]) * (log_variance / 2).exp(), arrays["z"])


def test_generator_equals_the_official_one(shared: Path) -> None:
    arrays = dict(np.load(shared / "golden" / "redcore_cross_modal_xe.npz"))
    generator = CodeGenerator(32, 16, (32, 16, 8), 3)
    names = [(r"^encoder_(\d)\.", r"autoencoders.\1.")]
    names += [(rf"^decoder_(\d)\.{i}", rf"autoencoders.\1.{i + 5}") for i in (0, 2, 4)]
    load_renamed(generator, arrays, names)
    assert_close(generator(torch.tensor(arrays["x"])), arrays["out"])


def test_classifier_equals_the_official_one(shared: Path) -> None:
    arrays = dict(np.load(shared / "golden" / "redcore_fc_classifier.npz"))
    classifier = Classifier(48, 16, 4, p_drop=0.5).eval()
    load_renamed(classifier, arrays, [("^module", "hidden"), ("^fc_out", "out")])
    x = torch.tensor(arrays["x"])
    assert_close(classifier.hidden(x), arrays["feat"])
    assert_close(classifier(x), arrays["logits"])


def test_relative_advantage_follows_the_official_trajectory(shared: Path) -> None:
    arrays = np.load(shared / "golden" / "redcore_ra_trajectory_default.npz")
    law = RelativeAdvantage(3).double()
    law.eta.fill_(float(arrays["eta0"]))
    for t, error in enumerate(torch.tensor(arrays["rec_AVL"])):
        law.update(error, torch.ones(3, dtype=torch.bool))
        assert_close(law.error, arrays["ema_AVL"][t])
        assert_close(law.advantage(), arrays["relative_advantage_AVL"][t])
        assert_close(law.beta, arrays["beta_AVL"][t])
        assert_close(law.eta, arrays["eta"][t])


def test_one_step_of_beta_by_hand() -> None:
    law = RelativeAdvantage(2, smoothing=0.5)
    law.update(torch.tensor([1.0, 3.0]), torch.ones(2, dtype=torch.bool))
    raw = torch.tensor([1 - 0.15 * 0.5, 1 + 0.15 * 0.5])  # eta 0.15, errors 0.5 and 1.5
    torch.testing.assert_close(law.error, torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(law.advantage(), torch.tensor([0.5, -0.5]))
    torch.testing.assert_close(law.beta, raw / raw.norm())


def test_advantages_sum_to_zero_and_beta_has_norm_one_after_an_update() -> None:
    law = RelativeAdvantage(4, interval=1, eta=3.0)
    for _ in range(20):
        law.update(torch.rand(4), torch.ones(4, dtype=torch.bool))
        assert law.advantage().sum().item() == pytest.approx(0.0, abs=1e-6)
        assert law.beta.norm().item() == pytest.approx(1.0)


def test_eta_grows_first_every_500_steps_and_stops_at_its_limit() -> None:
    law = RelativeAdvantage(2)
    seen = []
    for _ in range(1001):
        law.update(torch.ones(2), torch.ones(2, dtype=torch.bool))
        seen.append(law.eta.item())
    assert [seen[0], seen[499], seen[500], seen[1000]] == pytest.approx([0.15, 0.15, 0.225, 0.3375])
    law.eta.fill_(9e5)
    law.step.fill_(500)
    law.update(torch.ones(2), torch.ones(2, dtype=torch.bool))
    assert law.eta.item() == pytest.approx(1e6)


def test_losses_by_hand() -> None:
    available = torch.tensor([[True, False], [True, True], [False, False]])
    mean, log_variance = torch.ones(3, 2, 4), torch.zeros(3, 2, 4)
    assert divergence(mean, log_variance, available).item() == pytest.approx(3 * 4 / 3)
    generated = torch.tensor([1.0, 2.0, 9.0])[:, None, None].expand(3, 2, 4)
    found = regression(generated, torch.zeros(3, 2, 4), available)
    assert found.tolist() == pytest.approx([(4 * 1 + 4 * 4) / 2, 4 * 4])


def test_divergence_is_twice_that_of_torch() -> None:
    mean, log_variance = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    code = torch.distributions.Normal(mean, (log_variance / 2).exp())
    exact = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0))
    ours = divergence(mean, log_variance, torch.ones(5, 2, dtype=torch.bool))
    torch.testing.assert_close(ours, 2 * exact.sum() / 5)


def test_a_modality_absent_from_the_whole_batch_keeps_its_smoothed_loss() -> None:
    task = vector_task(*SHAPES)
    method = build(task, **SMALL)
    assert method.advantage is not None
    method.advantage.error.copy_(torch.tensor([1.0, 2.0, 3.0]))
    observed = torch.tensor([[True, False, True]] * 4)
    terms = method.losses(
        complete_tokens(task, 4), observed, torch.zeros(4).long(), make_progress()
    )
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
    assert method.advantage.error[1] == 2.0
    assert method.advantage.error[0] != 1.0


@pytest.mark.parametrize("settings", [{}, *PLUGIN.presets.values(), *PLUGIN.ablations.values()])
def test_content_of_what_is_absent_has_no_influence(settings: dict[str, Any]) -> None:
    task = vector_task(*SHAPES)
    method = build(task, **(settings | {"n_layers": 1})).eval()
    available = patterns(3)
    tokens = complete_tokens(task, len(available))
    tokens[0].valid[:, 3:] = False
    for noise in (float("nan"), 1e6):
        spoilt = []
        for m, each in enumerate(tokens):
            there = each.valid & available[:, m, None]
            values = torch.where(there[..., None], each.values, noise)
            spoilt.append(replace(each, values=values))
        assert torch.equal(method(spoilt, available).logits, method(tokens, available).logits)


def test_a_generated_code_replaces_what_is_missing_and_only_that() -> None:
    task = vector_task(*SHAPES)
    method = build(task, **SMALL).eval()
    tokens, available = complete_tokens(task, 4), torch.tensor([[True, False, True]] * 4)
    completed = method(tokens, available).representations
    codes = method.encode(tokens, available)[0]
    imputed = method.generators[1](torch.cat([codes[:, 0], codes[:, 2]], 1))
    torch.testing.assert_close(completed["completed.m1"][:, 0], imputed)
    torch.testing.assert_close(completed["completed.m0"][:, 0], codes[:, 0])


def test_batch_mates_and_order_have_no_influence() -> None:
    task = vector_task(*SHAPES)
    method = build(task).eval()
    tokens, available = complete_tokens(task, 7), patterns(3)
    whole = method(tokens, available).logits
    order = torch.randperm(7)
    shuffled = method([each.rows(order) for each in tokens], available[order]).logits
    torch.testing.assert_close(shuffled, whole[order], atol=1e-5, rtol=1e-5)
    for row in range(7):
        alone = [each.rows(torch.tensor([row])) for each in tokens]
        logits = method(alone, available[row : row + 1]).logits
        torch.testing.assert_close(logits, whole[row : row + 1], atol=1e-5, rtol=1e-5)


def test_row_without_any_modality_is_refused() -> None:
    task = vector_task(*SHAPES)
    with pytest.raises(ValueError, match="at least one available"):
        build(task)(complete_tokens(task, 2), torch.tensor([[True, False, True], [False] * 3]))


def test_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(BadConfig, match="n_heads must divide the width 12, got 8"):
        build(vector_task(*SHAPES, d_model=12))


def test_evaluation_draws_nothing_unless_asked() -> None:
    task = vector_task(*SHAPES)
    tokens, available = complete_tokens(task, 7), patterns(3)
    method = build(task).eval()
    assert torch.equal(method(tokens, available).logits, method(tokens, available).logits)
    official = build(task, sample_at_test=True).eval()
    assert not torch.equal(official(tokens, available).logits, official(tokens, available).logits)


def n_encoder(W: int, D: int) -> int:
    return D * W + D + 3 * (12 * D**2 + 17 * D) + 2 * D**2 + 2 * D


def n_generator(I: int, D: int, a: tuple[int, int, int], n: int) -> int:  # noqa: E741
    each = 2 * I * a[0] + 2 * a[0] + 2 * a[0] * a[1] + 2 * a[1] + 2 * a[1] * a[2] + a[2] + I
    return I**2 + I + I * D + D + n * each


def n_classifier(I: int, h: int, C: int) -> int:  # noqa: E741
    return I * h + h**2 + h * C + 2 * h + C


@pytest.mark.parametrize("n_modalities", [2, 3, 4])
@pytest.mark.parametrize("d_model", [16, 24])
def test_parameters_are_as_many_as_the_formula_says(n_modalities: int, d_model: int) -> None:
    M, D, C = n_modalities, d_model, 5
    task = vector_task(*[(2, 7)] * M, d_model=D, n_classes=C)
    encoders, generators = (
        M * n_encoder(D, D),
        M * n_generator((M - 1) * D, D, (2 * D, D, D // 2), 5),
    )
    joint, auxiliary = n_classifier(M * D, D, C), M * n_classifier(D, D, C)
    total = encoders + generators + joint + auxiliary + M * 8 * D
    assert n_parameters(build(task)) == total
    assert n_parameters(build(task, auxiliary=False)) == total - auxiliary
    assert n_parameters(build(task, generate=False)) == total - generators
    assert n_parameters(build(task, variational=False)) == total - M * (D**2 + D)
    raw = total - M * 8 * D - encoders + M * n_encoder(7, D)
    assert n_parameters(build(task, projection=False)) == raw


@pytest.mark.parametrize(
    ("d_model", "widths", "n", "shipped", "live"),
    [
        (128, (256, 128, 64), 5, 9_107_402, 5_610_824),
        (128, (128, 64, 32), 3, 4_567_786, 3_179_816),
        (256, (256, 128, 64), 5, 21_722_186, 14_336_456),
        (256, (128, 64, 32), 3, 14_426_986, 10_527_656),
    ],
)
def test_official_sizes_are_reproduced_with_and_without_what_is_unused(
    d_model: int, widths: tuple[int, int, int], n: int, shipped: int, live: int
) -> None:
    task = vector_task(*[(1, d_model)] * 3, d_model=d_model)
    settings = {"widths": widths, "n_autoencoders": n, "d_hidden": 128, "projection": False}
    with torch.device("meta"):
        assert n_parameters(build(task, **settings)) == live
        assert n_parameters(build(task, **settings, unused_modules=True)) == shipped


DERM7PT = vector_task((49, 768), (49, 768), (9, 1536), d_model=256, n_classes=2)
ODIR = vector_task((256, 2048), (256, 2048), (9, 1536), d_model=256, n_classes=3)
MEN = vector_task(*[(128, 128)] * 3, (9, 1536), d_model=256, n_classes=3)


def test_table4_like_preset_has_the_total_that_its_sheet_gives() -> None:
    with torch.device("meta"):
        fusion = n_parameters(build(DERM7PT, **PLUGIN.presets["table4-like"]))
    assert fusion == 15_016_810
    assert round((SWIN_T + fusion) / 1e6, 2) == 42.54


@pytest.mark.parametrize(
    ("settings", "totals"),
    [
        ({}, (50.67, 23.81, 47.36)),
        ({"widths": (256, 128, 64)}, (43.04, 16.18, 34.57)),
        ({"widths": (128, 64, 32), "n_autoencoders": 3}, (39.23, 12.37, 27.65)),
    ],
)
def test_totals_with_the_encoders_of_table4(
    settings: dict[str, Any], totals: tuple[float, ...]
) -> None:
    with torch.device("meta"):
        fusion = [n_parameters(build(task, **settings)) for task in (DERM7PT, ODIR, MEN)]
    encoders = (SWIN_T, 0, THREE_NNMAMBA)
    found = [round((a + b) / 1e6, 2) for a, b in zip(fusion, encoders, strict=True)]
    assert found == list(totals)


@pytest.mark.parametrize(
    "settings", [{}, {"sample_at_test": True}, *PLUGIN.presets.values(), *PLUGIN.ablations.values()]
)
def test_gradients_reach_every_parameter(settings: dict[str, Any]) -> None:
    task = vector_task(*SHAPES)
    method = build(task, **(settings | {"n_layers": 1}))
    tokens, label = complete_tokens(task, 16), torch.randint(0, 2, (16,))
    terms = method.losses(tokens, torch.ones(16, 3, dtype=torch.bool), label, make_progress())
    torch.stack(list(terms.values())).sum().backward()
    silent = {n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()}
    assert silent == set(method.shift_invariant)


def test_detached_target_keeps_the_regression_from_the_encoder_of_its_target() -> None:
    task = vector_task((2, 4), (2, 4))
    observed = torch.tensor([[True, False]] * 4)
    for detach in (True, False):
        method = build(task, **SMALL, detach_target=detach)
        terms = method.losses(
            complete_tokens(task, 4), observed, torch.ones(4).long(), make_progress()
        )
        terms["regression"].backward()
        reached = any(p.grad is not None and p.grad.any() for p in method.encoders[0].parameters())
        assert reached is not detach


def test_beta_stays_uniform_without_relative_advantage() -> None:
    task = vector_task(*SHAPES)
    method = build(task, **SMALL, relative_advantage=False, dropout="none").eval()
    tokens, observed = complete_tokens(task, 4), torch.ones(4, 3, dtype=torch.bool)
    term = method.losses(tokens, observed, torch.ones(4).long(), make_progress())["regression"]
    codes = method.encode(tokens, observed)[0]
    error = regression(generate_from_others(method.generators, codes), codes, observed)
    assert list(method.buffers()) == []
    torch.testing.assert_close(term, 0.15 * error.sum() / 3**0.5)


def train(method: RedCore, tokens: list[Tokens], label: Tensor, n_steps: int) -> list[float]:
    observed, progress = torch.ones(len(label), 3, dtype=torch.bool), make_progress()
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-3)
    totals = []
    for _ in range(n_steps):
        total = torch.stack(list(method.losses(tokens, observed, label, progress).values())).sum()
        optimiser.zero_grad()
        total.backward()
        for group in method.parameter_groups():
            assert group.max_grad_norm is not None
            nn.utils.clip_grad_norm_(group.parameters, group.max_grad_norm)
        optimiser.step()
        totals.append(total.item())
    return totals


def test_training_lowers_the_loss_and_moves_beta() -> None:
    task = vector_task(*SHAPES, d_model=8)
    method = build(task, **SMALL)
    assert method.advantage is not None
    label = torch.randint(0, 2, (32,))
    tokens = [
        replace(x, values=x.values + 2 * label[:, None, None]) for x in complete_tokens(task, 32)
    ]
    totals = train(method, tokens, label, 50)
    beta = method.advantage.beta
    assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[:5])
    assert (beta - 3**-0.5).abs().max() > 0.02
    assert int(method.advantage.step) == 50
    assert beta.norm().item() == pytest.approx(1.0)


def test_checkpoint_restores_the_weights_and_their_state() -> None:
    task = vector_task(*SHAPES)
    method, twin = build(task, **SMALL), build(task, **SMALL)
    tokens, label = complete_tokens(task, 8), torch.randint(0, 2, (8,))
    train(method, tokens, label, 4)
    twin.load_state_dict(method.state_dict())
    for name in ("error", "beta", "eta", "step"):
        assert torch.equal(getattr(twin.advantage, name), getattr(method.advantage, name))
    rows = [each.rows(torch.arange(7)) for each in tokens]
    first, second = (each.eval()(rows, patterns(3)).logits for each in (method, twin))
    assert torch.equal(first, second)


def test_evaluation_changes_no_state() -> None:
    task = vector_task(*SHAPES)
    method = build(task, **SMALL).eval()
    before = {name: x.clone() for name, x in method.state_dict().items()}
    tokens, label = complete_tokens(task, 7), torch.zeros(7, dtype=torch.long)
    method(tokens, patterns(3))
    method.losses(tokens, patterns(3), label, make_progress())
    assert all(torch.equal(x, before[name]) for name, x in method.state_dict().items())


def test_same_seed_gives_the_same_numbers() -> None:
    task = vector_task(*SHAPES)
    tokens, label = complete_tokens(task, 8), torch.randint(0, 2, (8,))
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append(train(build(task, **SMALL), tokens, label, 3))
    assert runs[0] == runs[1]


def test_constant_inputs_give_finite_losses_and_gradients() -> None:
    task = vector_task(*SHAPES)
    method = build(task, **SMALL)
    constant = [replace(x, values=torch.full_like(x.values, 3.0)) for x in complete_tokens(task, 4)]
    observed = torch.ones(4, 3, dtype=torch.bool)
    terms = method.losses(constant, observed, torch.zeros(4).long(), make_progress())
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


def test_search_space_gives_valid_configurations() -> None:
    trial = optuna.create_study().ask()
    RedCoreConfig.model_validate(PLUGIN.search_space(trial))
