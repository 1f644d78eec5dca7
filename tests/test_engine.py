"""Training by hand: schedule, stages, choice of weights, balance, and losses that go wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.availability import subsets
from bench.data import Task, Tokens
from bench.engine import inference
from bench.engine.batches import split_batches
from bench.engine.inference import Ask, Member, Scored, predict, selection_score
from bench.engine.stage import NonFiniteLoss, epochs_of, lr_factor
from bench.errors import BadConfig
from bench.method import Config, EncodedPart, ParameterGroup, Prediction, Progress, Stage
from bench.methods.concat import Concat, ConcatConfig
from tests.toy_training import N_CASES, TRAIN, VALID, Toy, builder, dataset, part, recipe, train


def test_the_rate_warms_up_linearly_and_then_falls_in_steps() -> None:
    plan = recipe(warmup_epochs=2, decay_every=3, decay_factor=0.5)
    factors = [lr_factor(epoch, plan) for epoch in range(9)]
    assert factors == [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    assert lr_factor(0, recipe(warmup_epochs=0, decay_every=1, decay_factor=0.5)) == 1.0


class Grouped(Toy):
    """Ask for a tenth of the rate for `other`, and note both after each step."""

    def __init__(self, task, config):
        super().__init__(task, config)
        self.path: list[tuple[float, float]] = []

    def parameter_groups(self):
        return [ParameterGroup([self.other], lr_factor=0.1)]

    def after_step(self, progress):
        self.path.append((self.weight.item(), self.other.item()))


def test_each_step_moves_by_the_rate_of_its_epoch_and_group() -> None:
    members, log = train(
        Grouped, epochs=3, batch_size=12, lr=0.1, warmup_epochs=2, decay_every=1, decay_factor=0.5
    )
    assert [row["lr"] for row in log] == pytest.approx([0.05, 0.1, 0.1])
    moved = -np.diff([(0.0, 0.0), *members[0].model.method.path], axis=0)
    # a gradient that stays at one makes a step of Adam as long as the rate; 2 steps an epoch
    np.testing.assert_allclose(moved[:, 0], [0.05, 0.05, 0.1, 0.1, 0.1, 0.1], rtol=1e-4)
    np.testing.assert_allclose(moved[:, 1], moved[:, 0] / 10, rtol=1e-4)


class Clipped(Toy):
    """Hold the gradient of `other` to a tenth."""

    def __init__(self, task, config):
        super().__init__(task, config)
        self.norms: list[list[float]] = []

    def parameter_groups(self):
        return [ParameterGroup([self.other], max_grad_norm=0.1)]

    def losses(self, tokens, observed, label, progress):
        return {"both": 1.0 * self.weight + 1.0 * self.other}  # gradients that share no memory

    def after_step(self, progress):
        both = [p.grad for p in (self.weight, self.other) if p.grad is not None]
        self.norms.append(torch.stack(both).tolist())


def test_gradients_are_clipped_in_the_group_that_asks_for_it() -> None:
    members, _ = train(Clipped)
    np.testing.assert_allclose(members[0].model.method.norms, [(1.0, 0.1)] * 3, rtol=1e-4)


class Staged(Toy):
    """Train two stages, a quarter and three quarters of the budget."""

    def stages(self):
        return [Stage("first", 0.25), Stage("second", 0.75)]


def test_stages_share_the_epochs_and_count_steps_on() -> None:
    members, log = train(Staged, epochs=8)
    assert [(row["stage"], row["epoch"], row["n_epochs"]) for row in log] == [
        *(("first", epoch, 2) for epoch in range(2)),
        *(("second", epoch, 6) for epoch in range(6)),
    ]
    told = members[0].model.method.told
    assert [progress.step for progress in told] == list(range(8 * 3))  # 24 cases in batches of 8
    assert [progress.n_epochs for progress in told[:7]] == [2] * 6 + [6]
    assert epochs_of(Stage("short", 0.01), recipe(epochs=8)) == 1


def scripted(*qualities: float) -> type[Toy]:
    """Make a method that is as good in each epoch as told; -1 is the worst ranking, 1 the best."""

    class Scripted(Toy):
        def on_epoch_start(self, progress: Progress) -> None:
            self.quality.fill_(qualities[progress.epoch])

    return Scripted


@pytest.mark.parametrize(
    ("qualities", "best"), [((0, 1, -1), 1), ((-1, 0, 1), 2), ((1, 1, 0), 0), ((0, 0, 0), 0)]
)
def test_the_weights_of_the_best_epoch_are_restored(
    qualities: tuple[float, ...], best: int
) -> None:
    (member,), log = train(scripted(*qualities), epochs=3)
    assert [row["valid"] for row in log] == [(quality + 1) / 2 for quality in qualities]
    assert {row["valid_is"] for row in log} == {"auc"}
    assert member.model.method.epoch == best
    assert member.model.method.quality == qualities[best]


def test_training_stops_when_no_epoch_was_better_for_so_long() -> None:
    _, log = train(scripted(0, 1, 0, 0, 1, 1, 1), epochs=7, patience=2, warmup_epochs=0)
    assert [row["epoch"] for row in log] == [0, 1, 2, 3]


def test_epochs_of_the_warm_up_are_not_chosen_unless_there_are_no_others() -> None:
    (member,), log = train(scripted(1, 1, 0, 0.5, 0), epochs=5, patience=2, warmup_epochs=2)
    assert member.model.method.epoch == 3
    assert len(log) == 5
    (member,), _ = train(scripted(1, 0), epochs=2, warmup_epochs=2)
    assert member.model.method.epoch == 0


def test_validation_of_one_class_is_judged_by_its_loss() -> None:
    label = np.arange(N_CASES) % 2
    label[VALID] = 1
    (member,), log = train(scripted(0, 1, -1), dataset(label), epochs=3)
    assert {row["valid_is"] for row in log} == {"minus loss"}
    assert log[0]["valid"] == pytest.approx(-np.log(2))
    assert member.model.method.epoch == 1


def test_what_no_validation_case_can_judge_keeps_its_last_weights() -> None:
    available = np.ones((N_CASES, 2), bool)
    available[VALID, 1] = False
    (member,), log = train(
        scripted(1, 0, 0, 0), dataset(available=available), selection=((1,),), epochs=4, patience=1
    )
    assert [row["valid"] for row in log] == [None] * 4
    assert member.model.method.epoch == 3


def test_selection_is_the_mean_auc_of_the_conditions() -> None:
    label = np.array([0, 1, 0, 1])
    right = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.2, 0.8]], np.float32)
    every = np.arange(4)
    perfect, reverse = Scored(every, right), Scored(every, right[:, ::-1])
    half = Scored(np.array([0, 1, 3]), np.array([[0.5, 0.5], [0.4, 0.6], [0.6, 0.4]], np.float32))
    nobody = Scored(every[:0], right[:0])
    assert selection_score(label, [perfect, reverse, half, nobody]) == (0.5, "auc")
    one_class = Scored(np.array([1, 3]), np.array([[0.5, 0.5], [0.75, 0.25]], np.float32))
    score, kind = selection_score(label, [perfect, one_class])
    assert kind == "minus loss"
    of_perfect = np.log([0.9, 0.9, 0.8, 0.8]).mean()
    assert score == pytest.approx((of_perfect + np.log([0.5, 0.25]).mean()) / 2)


@pytest.mark.parametrize(
    ("n_cases", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (1, [1]), (5, [5])]
)
def test_a_last_batch_of_one_case_joins_the_one_before(n_cases: int, sizes: list[int]) -> None:
    batches = split_batches(torch.arange(n_cases), 4)
    assert [len(batch) for batch in batches] == sizes
    assert torch.cat(batches).tolist() == list(range(n_cases))


def test_every_training_case_is_seen_once_an_epoch_in_another_order() -> None:
    members, _ = train(epochs=2, batch_size=5)
    labels = members[0].model.method.labels
    assert [len(batch) for batch in labels] == [5, 5, 5, 5, 4] * 2
    first, second = list(chain(*labels[:5])), list(chain(*labels[5:]))
    assert Counter(first) == Counter(second) == {0: 12, 1: 12}
    assert first != second


def unbalanced() -> np.ndarray:
    """Return labels with 18 training cases of class 0 and 6 of class 1."""
    label = np.arange(N_CASES) % 2
    label[TRAIN] = np.arange(24) % 4 == 0
    return label


def test_balancing_weights_count_every_class_alike_with_mean_one() -> None:
    members, _ = train(data=dataset(unbalanced()), balance="weights")
    weight = members[0].model.method.told[0].class_weight
    torch.testing.assert_close(weight, torch.tensor([24 / (2 * 18), 24 / (2 * 6)]))
    assert weight @ torch.tensor([18.0, 6.0]) == 24
    members, _ = train(data=dataset(unbalanced()))
    assert members[0].model.method.told[0].class_weight is None


def test_balanced_batches_hold_the_classes_in_turn() -> None:
    members, _ = train(data=dataset(unbalanced()), balance="batches", batch_size=8)
    labels = members[0].model.method.labels
    assert [Counter(batch) for batch in labels] == [{0: 4, 1: 4}] * 4 + [{0: 2, 1: 2}]
    assert members[0].model.method.told[0].class_weight is None


def test_balanced_batches_draw_each_case_of_a_class_as_often() -> None:
    seen: list[list[float]] = []

    class Noting(Toy):
        def losses(self, tokens, observed, label, progress):
            seen.append(tokens[1].values[label == 1, 0, 1].tolist())
            return super().losses(tokens, observed, label, progress)

    train(Noting, dataset(unbalanced()), balance="batches")
    assert set(Counter(chain(*seen)).values()) == {3}  # 6 cases stand for 18


@pytest.mark.parametrize(("law", "told"), [("own", None), ("none", "none"), ("uniform", "uniform")])
def test_the_law_of_the_study_reaches_the_method(law: str, told: str | None) -> None:
    members, _ = train(train_dropout=law)
    assert members[0].model.method.told[0].dropout == told


HELD = "method.held"  # a parameter that the method itself keeps from training


class Partial(Toy):
    """Train `weight` alone, then the encoders of the table and `other`."""

    def __init__(self, task, config):
        super().__init__(task, config)
        self.held = nn.Parameter(torch.ones(()), requires_grad=False)
        self.states: dict[str, dict[str, Tensor]] = {}

    def stages(self):
        return [
            Stage("head", 0.5, parameters=("method.weight",)),
            Stage("rest", 0.5, parameters=("encoders.clinical.", "method.other")),
        ]

    def losses(self, tokens, observed, label, progress):
        terms = super().losses(tokens, observed, label, progress)
        return {**terms, "table": tokens[0].values.mean()}


def test_only_the_parameters_with_a_stage_s_prefixes_move_in_it() -> None:
    data = dataset()
    start = builder(data, Partial)(None).state_dict()
    members, _ = train(Partial, data, epochs=2)
    model = members[0].model
    assert moved(model, start) == set(start) & dict(model.named_parameters()).keys() - {HELD}
    assert {name for name, value in model.named_parameters() if not value.requires_grad} == {HELD}

    class HeadAlone(Partial):
        def stages(self):
            return super().stages()[:1]

    assert moved(train(HeadAlone, data)[0][0].model, start) == {"method.weight"}


def moved(model: nn.Module, start: dict[str, Tensor]) -> set[str]:
    """Name the parameters that differ from where they started."""
    return {name for name, value in model.named_parameters() if not torch.equal(value, start[name])}


class Specialists(Toy):
    """Train a copy for modality 1 and one for both, whose answers tell them apart."""

    def stages(self):
        return [
            Stage("genes", subset=(1,), cases=lambda observed: observed[:, 1], fresh=True),
            Stage(
                "both",
                subset=(0, 1),
                cases=lambda observed: observed[:, 0] & observed[:, 1],
                fresh=True,
            ),
        ]

    def losses(self, tokens, observed, label, progress):
        self.quality.fill_({"genes": 1.0, "both": 2.0, "common": 3.0}[progress.stage])
        return super().losses(tokens, observed, label, progress)

    def forward(self, tokens, available):
        logits = torch.zeros(len(available), 2)
        logits[:, 1] = self.quality
        return Prediction(logits)


def answers(members: Sequence[Member], observed: list[list[int]]) -> list[float]:
    """Return by rows which stage's copy answered, as its number."""
    inputs = part(dataset(), np.arange(len(observed))).inputs
    ask = Ask(np.arange(len(observed)), torch.tensor(observed, dtype=torch.bool))
    (scored,) = predict(members, inputs, [ask])
    return np.log(scored.proba[:, 1] / scored.proba[:, 0]).round(4).tolist()


def test_fresh_stages_make_members_that_answer_for_their_subset() -> None:
    members, log = train(Specialists)
    assert [member.subset for member in members] == [(1,), (0, 1)]
    assert members[0].model is not members[1].model
    assert [row["stage"] for row in log] == ["genes", "both"]
    assert answers(members, [[0, 1], [1, 1], [0, 1]]) == [1.0, 2.0, 1.0]
    assert answers(members[:1], [[1, 1]]) == [1.0]  # the largest part that somebody knows


def test_a_common_stage_beside_fresh_ones_answers_for_the_rest() -> None:
    class WithCommon(Specialists):
        def stages(self):
            return [Stage("common"), *super().stages()]

    members, _ = train(WithCommon)
    assert [member.subset for member in members] == [None, (1,), (0, 1)]
    assert answers(members, [[1, 0], [0, 1], [1, 1]]) == [3.0, 1.0, 2.0]


def test_a_stage_without_cases_is_skipped_and_said() -> None:
    available = np.ones((N_CASES, 2), bool)
    available[:, 0] = False
    members, log = train(Specialists, dataset(available=available))
    assert [member.subset for member in members] == [(1,)]
    assert log[-1] == {"stage": "both", "skipped": "0 training cases, it needs 2"}


def test_a_training_without_any_case_is_refused() -> None:
    class Nobody(Toy):
        def stages(self):
            return [Stage("none", cases=lambda observed: np.zeros(len(observed), bool))]

    with pytest.raises(BadConfig, match="no stage has 2 training cases"):
        train(Nobody)


def test_each_case_is_encoded_once_for_all_conditions() -> None:
    available = np.ones((N_CASES, 2), bool)
    available[VALID[:5], 0] = False
    data = dataset(available=available)
    model = builder(data)(None)
    n_rows: dict[str, int] = {}
    for name, encoder in model.encoders.named_children():
        encoder.register_forward_hook(
            lambda _, given, encoded, name=name: n_rows.update(
                {name: n_rows.get(name, 0) + len(encoded)}
            )
        )
    inputs = part(data, VALID).inputs
    asks = [Ask.of_subset(inputs.observed, subset) for subset in [*subsets(2), None]]
    scored = predict([Member(model)], inputs, asks)
    assert [len(each.rows) for each in scored] == [11, 16, 11, 16]
    assert n_rows == {"clinical": 11, "genes": 16}


def test_predictions_do_not_depend_on_how_many_cases_are_encoded_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = part(dataset(), VALID).inputs
    model = builder(dataset())(None)
    asks = [Ask.of_subset(inputs.observed, subset) for subset in subsets(2)[1:]]
    whole = predict([Member(model)], inputs, asks)
    monkeypatch.setattr(inference, "CHUNK", 7)
    for one, other in zip(whole, predict([Member(model)], inputs, asks), strict=True):
        np.testing.assert_array_equal(one.proba, other.proba)


class Learning(Concat):
    """The simplest network, with dropout of units and modalities."""

    def __init__(self, task: Task, config: Config):
        super().__init__(task, ConcatConfig(dropout="uniform"))


def test_the_same_seed_gives_the_same_numbers_and_another_others() -> None:
    (one,), (again,), (other,) = (
        train(Learning, seed=seed, epochs=2, lr=0.01)[0] for seed in (0, 0, 1)
    )
    states = [each.model.state_dict() for each in (one, again, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_draws_made_elsewhere_change_nothing() -> None:
    (one,), _ = train(Learning, epochs=1, lr=0.01)
    torch.manual_seed(99)
    torch.rand(1000)
    (other,), _ = train(Learning, epochs=1, lr=0.01)
    states = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def diverging(value: float, *, then: str = "") -> type[Toy]:
    """Make a method whose term `zeta` is not finite in epoch 1, step 1; what follows is, too."""

    class Diverging(Toy):
        n_steps = 0

        def on_epoch_start(self, progress: Progress) -> None:
            self.n_steps = 0

        def losses(self, tokens, observed, label, progress):
            terms = super().losses(tokens, observed, label, progress)
            if then and not self.weight.isfinite():
                raise RuntimeError(then)
            place = (progress.epoch, self.n_steps)
            self.n_steps += 1
            return {**terms, "zeta": self.weight * (value if place == (1, 1) else 1.0)}

    return Diverging


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "nan"), (float("inf"), "-inf")])
@pytest.mark.parametrize("then", ["", "a consequence"])
def test_a_loss_that_is_not_finite_is_named_with_term_epoch_and_step(
    value: float, said: str, then: str
) -> None:
    expected = rf"loss term 'zeta' is {said} in stage 'train', epoch 1, step 1; lower the learning"
    with pytest.raises(NonFiniteLoss, match=expected):
        train(diverging(value, then=then), epochs=2)


def test_predictions_that_are_not_finite_are_named() -> None:
    with pytest.raises(NonFiniteLoss, match="validation predictions are not finite in stage 'trai"):
        train(scripted(0.5, float("nan")), epochs=2)


def test_an_error_of_the_method_stays_what_it_is() -> None:
    class Wrong(Toy):
        def losses(self, tokens, observed, label, progress):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        train(Wrong)


class Calibrating(Toy):
    """Note what it is calibrated on."""

    def __init__(self, task, config):
        super().__init__(task, config)
        self.calls: list[tuple[EncodedPart, EncodedPart, bool, bool]] = []

    def calibrate(self, train: EncodedPart, valid: EncodedPart) -> None:
        self.calls.append((train, valid, self.training, torch.is_grad_enabled()))


def test_calibrate_is_called_once_after_the_last_stage_on_all_cases() -> None:
    class TwoStages(Calibrating, Staged):
        pass

    (member,), _ = train(TwoStages, epochs=4)
    ((fitted, valid, training, with_gradient),) = member.model.method.calls
    assert (len(fitted.label), len(valid.label)) == (len(TRAIN), len(VALID))
    assert [tuple(each.values.shape) for each in fitted.tokens] == [(24, 2, 4), (24, 1, 3)]
    assert fitted.observed.shape == (24, 2)
    assert not training
    assert not with_gradient


def test_each_fresh_model_is_calibrated_once() -> None:
    class FreshOnes(Calibrating, Specialists):
        pass

    members, _ = train(FreshOnes)
    assert [len(member.model.method.calls) for member in members] == [1, 1]


def test_the_model_is_in_training_mode_in_steps_alone() -> None:
    modes: list[tuple[str, bool]] = []

    class Watching(Toy):
        def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
            modes.append(("predict", self.training))
            return super().forward(tokens, available)

        def losses(self, tokens, observed, label, progress):
            modes.append(("train", self.training))
            return super().losses(tokens, observed, label, progress)

    train(Watching, epochs=2)
    assert set(modes) == {("train", True), ("predict", False)}


def test_rows_of_an_absent_modality_are_never_encoded_in_training() -> None:
    available = np.ones((N_CASES, 2), bool)
    available[::3, 0] = False
    counts: list[int] = []

    class Counting(Toy):
        def losses(self, tokens, observed, label, progress):
            counts.append(int(tokens[0].valid.any(1).sum()))
            assert torch.equal(tokens[0].valid.any(1), observed[:, 0])
            return super().losses(tokens, observed, label, progress)

    train(Counting, dataset(available=available))
    assert sum(counts) == int(available[TRAIN, 0].sum())


class Lost(Toy):
    """Name a part that is not there."""

    def stages(self):
        return [Stage("all", parameters=("encoders.nobody.",))]


def test_a_stage_that_trains_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'encoders.nobody.', but no part"):
        train(Lost)


def test_a_task_names_the_parameters_of_each_encoder() -> None:
    (member,), _ = train(Toy)
    model = member.model
    names = [name for name, _ in model.named_parameters()]
    for spec in model.method.task.modalities:
        assert spec.encoder.startswith("encoders.")
        assert spec.kind == "vector" or any(name.startswith(spec.encoder) for name in names)
