"""From preprocessed cases to tokens: what is encoded, by what, and what never is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from bench.data import Availability, Dataset, Modality, PictureArray
from bench.encoders import Encoders, ModalityInput, Preprocessor, fit_preprocessor, image
from bench.encoders.attributes import AttributeEncoder
from bench.encoders.image import ImageEncoder, _to_tokens
from bench.encoders.pixels import PictureStatistics
from bench.errors import BadConfig, BadData, UnknownName
from bench.spec import EncoderConfig
from tests.toy_cases import dataset, everything, gaps_of_everything, with_planted_content

SMALL = EncoderConfig.model_validate({"image": "test_resnet", "d_attribute": 4})
ALL = np.arange(6)
GREY = PictureStatistics(shape=(32, 32, 1), mean=(0.5,), std=(0.25,))


def config(**settings: object) -> EncoderConfig:
    """Change some of the settings of the small encoder."""
    return EncoderConfig.model_validate(SMALL.model_dump() | settings)


def fitted(data: Dataset, gaps: Availability | None = None) -> Preprocessor:
    return fit_preprocessor(data, np.arange(4), gaps or data.natural())


def two_views(encoder: str) -> Dataset:
    """Six cases of two pictures that share an encoder."""
    rng = np.random.default_rng(0)
    modalities = (
        Modality("left", "image", encoder=encoder),
        Modality("right", "image", encoder=encoder),
    )
    content: dict[str, object] = {
        each.name: PictureArray(rng.integers(0, 256, (6, 32, 32, 1), dtype=np.uint8))
        for each in modalities
    }
    return dataset(modalities, content)


def count_rows(encoder: nn.Module) -> list[int]:
    """Note how many rows each call of an image encoder gets."""
    calls: list[int] = []
    encoder.register_forward_hook(lambda module, given, out: calls.append(len(out)))
    return calls


def pictures(n: int, side: int = 32, channels: int = 1) -> ModalityInput:
    return ModalityInput(pictures=torch.randint(256, (n, side, side, channels)).byte())


# attributes and vectors


def test_a_number_scales_its_direction_and_a_category_picks_its_vector() -> None:
    encoder = AttributeEncoder(("numeric", "categorical", "categorical"), (4, 3, 2), 2)
    assert encoder.weight is not None
    assert encoder.embedding is not None
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[1.0, 2.0]]))
        encoder.bias.copy_(torch.tensor([[0.5, 0.5], [10.0, 20.0], [0.0, 0.0]]))
        encoder.embedding.copy_(torch.arange(10.0).view(5, 2))
    content = ModalityInput(
        numbers=torch.tensor([[3.0, 0.0, 0.0], [float("nan"), 0.0, float("nan")]]),
        codes=torch.tensor([[3, 2, 1], [-1, 0, -1]]),
    )
    expected = [[[3.5, 6.5], [14.0, 25.0], [8.0, 9.0]], [[0.0, 0.0], [10.0, 21.0], [0.0, 0.0]]]
    assert encoder(content).tolist() == expected


def test_the_token_of_a_value_never_seen_in_training_starts_as_the_bias() -> None:
    encoder = AttributeEncoder(("categorical", "categorical"), (3, 2), 4)
    content = ModalityInput(numbers=torch.zeros(1, 2), codes=torch.zeros(1, 2, dtype=torch.long))
    assert torch.equal(encoder(content)[0], encoder.bias)


@pytest.mark.parametrize("kinds", [("numeric",), ("categorical",), ("categorical", "numeric")])
def test_gradients_reach_every_parameter_of_a_table_and_stay_finite(kinds: Any) -> None:
    encoder = AttributeEncoder(kinds, (4,) * len(kinds), 3)
    numbers = torch.randn(5, len(kinds))
    numbers[0] = float("nan")
    codes = torch.randint(4, (5, len(kinds)))
    codes[0] = -1
    encoder(ModalityInput(numbers=numbers, codes=codes)).square().sum().backward()
    for parameter in encoder.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


def test_a_vector_is_one_token_without_parameters() -> None:
    data = everything()
    preprocessor = fitted(data)
    encoders = Encoders(data.modalities, preprocessor, SMALL)
    inputs = preprocessor.inputs(data, ALL, data.natural())
    tokens = encoders(inputs)[1]
    assert torch.equal(tokens.values[:, 0], torch.as_tensor(inputs.content[1].vector))
    assert not any(name.startswith("genes") for name, _ in encoders.named_parameters())


# pictures


@pytest.mark.parametrize(
    ("name", "side", "n_tokens", "d_token"),
    [
        ("resnet10t", 32, 1, 512),  # map, channels first
        ("test_resnet", 64, 4, 96),
        ("test_mambaout", 64, 4, 64),  # map, channels last
        ("test_vit", 64, 16, 64),  # sequence with a class token, patches of 16
        ("test_vit", 24, 4, 64),  # scaled to 32
    ],
)
def test_a_picture_gives_one_token_per_place_of_the_last_map(
    name: str, side: int, n_tokens: int, d_token: int
) -> None:
    statistics = PictureStatistics(shape=(side, side, 1), mean=(0.5,), std=(0.25,))
    encoder = ImageEncoder(statistics, config(image=name))
    assert (encoder.n_tokens, encoder.d_token) == (n_tokens, d_token)
    assert encoder(pictures(2, side)).shape == (2, n_tokens, d_token)


def test_maps_of_either_order_and_sequences_give_the_same_tokens() -> None:
    tokens = torch.randn(2, 6, 5)
    first = tokens.transpose(1, 2).reshape(2, 5, 2, 3)
    last = tokens.reshape(2, 2, 3, 5)
    prefixed = torch.cat([torch.randn(2, 1, 5), tokens], dim=1)
    cases: list[tuple[torch.Tensor, Any]] = [
        (first, SimpleNamespace(num_features=5)),
        (last, SimpleNamespace(num_features=5)),
        (last, SimpleNamespace(num_features=3, output_fmt="NHWC")),
        (tokens, SimpleNamespace(num_features=5)),
        (prefixed, SimpleNamespace(num_features=5, num_prefix_tokens=1)),
    ]
    for features, model in cases:
        assert torch.equal(_to_tokens(features, model), tokens)
    pooled = tokens[:, 0]
    assert torch.equal(_to_tokens(pooled, cases[0][1]), tokens[:, :1])


def test_pictures_are_normalised_by_the_channels_of_the_training_part() -> None:
    statistics = PictureStatistics(shape=(32, 32, 3), mean=(0.0, 0.2, 0.4), std=(1.0, 0.5, 0.25))
    encoder = ImageEncoder(statistics, SMALL)
    white = torch.full((1, 32, 32, 3), 255, dtype=torch.uint8)
    assert encoder._normalise(white)[0, :, 5, 7].tolist() == pytest.approx([1.0, 1.6, 2.4])


def test_small_pictures_are_scaled_until_their_shorter_side_has_32_pixels() -> None:
    statistics = PictureStatistics(shape=(8, 12, 1), mean=(0.0,), std=(1.0,))
    encoder = ImageEncoder(statistics, SMALL)
    small = torch.zeros(1, 8, 12, 1, dtype=torch.uint8)
    assert encoder._normalise(small).shape == (1, 1, 32, 48)


def test_features_that_are_no_single_map_are_refused() -> None:
    for features in ([torch.zeros(1, 2, 3)], torch.zeros(1, 2, 3, 4, 5)):
        with pytest.raises(ValueError, match="features must"):
            _to_tokens(features, SimpleNamespace())


def test_an_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match=r"no timm model is named 'resnet10'; did you mean "):
        ImageEncoder(GREY, config(image="resnet10"))


def test_pictures_that_the_model_cannot_take_are_refused_in_one_line() -> None:
    odd = PictureStatistics(shape=(40, 40, 1), mean=(0.0,), std=(1.0,))
    with pytest.raises(BadConfig, match=r"encoder.image=test_maxvit cannot") as caught:
        ImageEncoder(odd, config(image="test_maxvit"))
    assert "\n" not in str(caught.value)


def test_a_frozen_encoder_never_trains() -> None:
    encoder = ImageEncoder(GREY, config(frozen=True))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    tokens = encoder(pictures(4))
    assert not tokens.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


# pretrained weights


def save_torch(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save({"state_dict": state}, path)


@pytest.mark.parametrize(("save", "suffix"), [(save_file, "safetensors"), (save_torch, "pth")])
def test_weights_come_from_a_file_and_the_head_is_left_out(
    save: Callable[..., None], suffix: str, tmp_path: Path
) -> None:
    source: Any = timm.create_model("test_resnet", num_classes=7)
    path = tmp_path / f"weights.{suffix}"
    save(source.state_dict(), path)
    encoder = ImageEncoder(GREY, config(weights=str(path)))
    assert torch.equal(encoder.model.conv1[0].weight, source.conv1[0].weight)
    assert encoder.model.get_classifier().state_dict() == {}


def test_pretrained_weights_see_grey_as_three_channels_and_their_own_moments(
    tmp_path: Path,
) -> None:
    source: Any = timm.create_model("test_resnet").eval()
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    weights = str(tmp_path / "weights.safetensors")
    content = pictures(2)
    assert content.pictures is not None
    x = content.pictures.permute(0, 3, 1, 2).repeat(1, 3, 1, 1) / 255.0
    mean = torch.tensor(source.pretrained_cfg["mean"]).view(3, 1, 1)
    std = torch.tensor(source.pretrained_cfg["std"]).view(3, 1, 1)
    expected = source.forward_features((x - mean) / std).flatten(2).transpose(1, 2)
    tokens = ImageEncoder(GREY, config(weights=weights)).eval()(content)
    torch.testing.assert_close(tokens, expected)


def test_weights_of_a_transformer_are_fitted_to_another_picture_size(tmp_path: Path) -> None:
    source = timm.create_model("test_vit")  # 160 x 160
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    encoder = ImageEncoder(
        GREY, config(image="test_vit", weights=str(tmp_path / "weights.safetensors"))
    )
    assert encoder.model.pos_embed.shape == (1, 5, 64)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    wanted = config(weights=str(path))
    state = timm.create_model("test_resnet").state_dict()
    wide = state | {"conv1.0.weight": torch.zeros(2, 3, 3, 3)}
    few = {name: value for name, value in state.items() if name != "bn1.bias"}
    more = state | {"layer9.weight": torch.zeros(1)}
    for wrong, reason in ((wide, "size mismatch"), (few, "'bn1.bias'"), (more, "'layer9.weight'")):
        torch.save(wrong, path)
        with pytest.raises(BadConfig, match=f"does not fit encoder.image=test_resnet.*{reason}"):
            ImageEncoder(GREY, wanted)


class Planted:
    """What an unpickler would have to import."""


def test_files_without_weights_are_refused_and_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    wanted = config(weights=str(path))
    with pytest.raises(BadConfig, match=r"weights.pth is no file; give the path"):
        ImageEncoder(GREY, wanted)
    torch.save({"state_dict": Planted()}, path)
    with pytest.raises(BadConfig, match=r"cannot be read .* give a safetensors file"):
        ImageEncoder(GREY, wanted)
    path.write_text("not weights")
    with pytest.raises(BadConfig, match=r"cannot be read"):
        ImageEncoder(GREY, wanted)


def test_pretrained_weights_that_cannot_be_had_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(*args: object, **settings: object) -> None:
        raise OSError("cannot reach the hub\nand more")

    monkeypatch.setattr(image, "cached_file", lambda *arguments: None)
    monkeypatch.setattr(image, "check_reachable", offline)
    with pytest.raises(BadConfig) as caught:
        ImageEncoder(GREY, config(pretrained=True))
    assert str(caught.value) == (
        "pretrained weights of encoder.image=test_resnet cannot be had (OSError: cannot reach the "
        "hub and more); give a file with encoder.weights=PATH, or train from scratch with "
        "encoder.pretrained=false"
    )


def test_a_checkpoint_needs_no_pretrained_weights(tmp_path: Path) -> None:
    gone = config(weights=str(tmp_path / "gone.pth"), pretrained=True)
    encoder = ImageEncoder(GREY, gone, load_weights=False)
    assert encoder.n_channels == 3


def test_pretrained_weights_take_grey_or_rgb_only() -> None:
    two = PictureStatistics(shape=(32, 32, 2), mean=(0.0, 0.0), std=(1.0, 1.0))
    with pytest.raises(BadConfig, match="takes grey or RGB pictures, got 2 channels"):
        ImageEncoder(two, config(pretrained=True))
    assert ImageEncoder(two, SMALL).n_channels == 2


# all encoders together


def test_specs_tell_the_shape_of_what_forward_gives() -> None:
    data = everything()
    preprocessor = fitted(data)
    encoders = Encoders(data.modalities, preprocessor, SMALL)
    tokens = encoders(preprocessor.inputs(data, ALL, data.natural()))
    for spec, each in zip(encoders.specs, tokens, strict=True):
        assert each.values.shape == (6, spec.n_tokens, spec.d_token)
        assert each.valid.shape == (6, spec.n_tokens)
        assert each.attribute.tolist() == list(spec.attribute)
        assert each.codes.shape == each.numbers.shape == (6, spec.n_attributes)
    clinical = encoders.task(data.classes, 8).modalities[0]
    assert clinical.attribute_names == ("age", "sex")
    assert clinical.attribute_kinds == ("numeric", "categorical")
    assert clinical.n_codes == (4, 3)
    assert clinical.attribute == (0, 1)


def test_what_is_not_observed_gives_blank_tokens_at_both_levels() -> None:
    data, gaps = everything(), gaps_of_everything()
    preprocessor = fitted(data, gaps)
    inputs = preprocessor.inputs(data, ALL, gaps)
    tokens = Encoders(data.modalities, preprocessor, SMALL)(inputs)
    cells = torch.from_numpy(gaps.attributes[0] & gaps.modality[:, :1])
    assert torch.equal(tokens[0].valid, cells)
    assert torch.equal(tokens[0].codes >= 0, cells)
    assert torch.equal(~tokens[0].numbers.isnan(), cells)
    for m, each in enumerate(tokens):
        assert torch.equal(each.valid.any(1), inputs.observed[:, m])
        assert not each.values[~each.valid].any()


@pytest.mark.parametrize("number", [float("nan"), 1e6])
@pytest.mark.parametrize("training", [True, False])
def test_content_of_what_is_absent_leaves_every_token_bit_equal(
    number: float, training: bool
) -> None:
    data, gaps = everything(), gaps_of_everything()
    planted = with_planted_content(data, gaps, number)
    found = []
    for each in (data, planted):
        torch.manual_seed(0)
        preprocessor = fitted(each, gaps)
        encoders = Encoders(each.modalities, preprocessor, SMALL).train(training)
        found.append(encoders(preprocessor.inputs(each, ALL, gaps)))
    for mine, yours in zip(*found, strict=True):
        assert torch.equal(mine.values, yours.values)
        assert torch.equal(mine.codes, yours.codes)
        assert mine.values.isfinite().all()


def test_content_left_in_the_inputs_of_an_absent_modality_is_not_encoded() -> None:
    data = everything()
    preprocessor = fitted(data)
    encoders = Encoders(data.modalities, preprocessor, SMALL)
    inputs = preprocessor.inputs(data, ALL, data.natural())
    gaps = torch.from_numpy(gaps_of_everything().modality)
    leaky = encoders(replace(inputs, observed=gaps))
    for mine, yours in zip(leaky, encoders(inputs.restrict(gaps)), strict=True):
        for name in ("values", "valid", "codes", "numbers"):
            np.testing.assert_array_equal(
                getattr(mine, name).detach(), getattr(yours, name).detach()
            )


def test_only_present_rows_are_encoded() -> None:
    data, gaps = everything(), gaps_of_everything()
    preprocessor = fitted(data, gaps)
    encoders = Encoders(data.modalities, preprocessor, SMALL)
    calls = {name: count_rows(each) for name, each in encoders.named_children()}
    encoders(preprocessor.inputs(data, ALL, gaps))
    assert calls == {"clinical": [4], "genes": [3], "view": [4]}


def test_modalities_that_share_an_encoder_are_encoded_in_one_call() -> None:
    data = two_views("view")
    preprocessor = fitted(data)
    encoders = Encoders(data.modalities, preprocessor, SMALL).eval()
    gaps = Availability(np.array([[1, 1], [1, 0], [1, 0], [0, 1], [1, 1], [1, 1]], bool))
    inputs = preprocessor.inputs(data, ALL, gaps)
    calls = count_rows(encoders.get_submodule("view"))
    left, right = encoders(inputs)
    assert calls == [9]
    one_by_one = encoders.get_submodule("view")
    for m, tokens in enumerate((left, right)):
        present = inputs.observed[:, m]
        expected = one_by_one(inputs.content[m].rows(present))
        torch.testing.assert_close(tokens.values[present], expected)


def test_separate_encoders_are_named_by_modality_and_shared_ones_by_key() -> None:
    data = two_views("view")
    preprocessor = fitted(data)
    shared = Encoders(data.modalities, preprocessor, SMALL)
    separate = Encoders(data.modalities, preprocessor, SMALL, separate=True)
    assert [name for name, _ in shared.named_children()] == ["view"]
    assert [name for name, _ in separate.named_children()] == ["left", "right"]
    assert [shared.encoder_prefixes(m) for m in (0, 1)] == ["encoders.view."] * 2
    assert separate.encoder_prefixes(1) == "encoders.right."
    calls = [count_rows(each) for each in separate.children()]
    separate(preprocessor.inputs(data, ALL, data.natural()))
    assert calls == [[6], [6]]


def test_a_modality_may_have_any_name() -> None:
    awkward = [Modality("train", "image"), Modality("X-ray, p.a.", "image"), Modality("2", "image")]
    content: dict[str, object] = {
        each.name: PictureArray(np.zeros((6, 32, 32, 1), np.uint8)) for each in awkward
    }
    data = dataset(tuple(awkward), content)
    encoders = Encoders(data.modalities, fitted(data), SMALL)
    parameters = [f"encoders.{name}" for name, _ in encoders.named_parameters()]
    for m in range(3):
        assert any(name.startswith(encoders.encoder_prefixes(m)) for name in parameters)
    encoders.load_state_dict(encoders.state_dict())


def test_without_any_present_row_the_encoder_is_not_called() -> None:
    data = two_views("view")
    preprocessor = fitted(data)
    encoders = Encoders(data.modalities, preprocessor, SMALL)
    calls = count_rows(encoders.get_submodule("view"))
    inputs = preprocessor.inputs(data, ALL, data.natural())
    tokens = encoders(inputs.restrict(torch.zeros(6, 2, dtype=torch.bool)))
    assert calls == []
    assert not any(each.values.any() or each.valid.any() for each in tokens)
    assert tokens[0].values.shape == (6, 1, encoders.specs[0].d_token)


def test_a_single_row_runs_on_running_statistics_and_leaves_them_alone() -> None:
    data = two_views("view")
    preprocessor = fitted(data)
    encoders = Encoders(data.modalities, preprocessor, SMALL).train()
    before = {name: value.clone() for name, value in encoders.state_dict().items()}
    one_row = np.zeros((6, 2), bool)
    one_row[3, 1] = True
    inputs = preprocessor.inputs(data, ALL, Availability(one_row))
    tokens = encoders(inputs)[1].values
    assert all(module.training for module in encoders.modules())
    assert all(torch.equal(before[name], value) for name, value in encoders.state_dict().items())
    assert tokens.requires_grad
    assert torch.equal(tokens, encoders.eval()(inputs)[1].values)


def test_two_rows_of_a_training_batch_move_the_running_statistics() -> None:
    data = two_views("view")
    preprocessor = fitted(data)
    encoders = Encoders(data.modalities, preprocessor, SMALL).train()
    before = encoders.get_buffer("view.model.bn1.running_mean").clone()
    one_case = np.zeros((6, 2), bool)
    one_case[3] = True
    encoders(preprocessor.inputs(data, ALL, Availability(one_case)))
    assert not torch.equal(before, encoders.get_buffer("view.model.bn1.running_mean"))


def test_pictures_that_share_an_encoder_must_have_one_size() -> None:
    data = two_views("view")
    small = PictureArray(np.zeros((6, 16, 16, 1), np.uint8))
    data = replace(data, content={**data.content, "left": small})
    with pytest.raises(BadData, match=r"left \(16, 16, 1\), right \(32, 32, 1\)"):
        Encoders(data.modalities, fitted(data), SMALL)
    assert Encoders(data.modalities, fitted(data), SMALL, separate=True).specs


def test_the_same_seed_gives_the_same_encoders() -> None:
    data = everything()
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(Encoders(data.modalities, fitted(data), SMALL).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_saved_encoders_give_the_same_tokens() -> None:
    data, gaps = everything(), gaps_of_everything()
    preprocessor = fitted(data, gaps)
    first = Encoders(data.modalities, preprocessor, SMALL).eval()
    second = Encoders(data.modalities, Preprocessor.from_state(preprocessor.state()), SMALL).eval()
    second.load_state_dict(first.state_dict())
    inputs = preprocessor.inputs(data, ALL, gaps)
    for mine, yours in zip(first(inputs), second(inputs), strict=True):
        assert torch.equal(mine.values, yours.values)


def test_bf16_autocast_still_gives_float32_tokens() -> None:
    data = everything()
    preprocessor = fitted(data)
    encoders = Encoders(data.modalities, preprocessor, SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = encoders(preprocessor.inputs(data, ALL, data.natural()))
    assert {each.values.dtype for each in tokens} == {torch.float32}


def test_gradients_reach_every_parameter_of_the_encoders() -> None:
    data, gaps = everything(), gaps_of_everything()
    preprocessor = fitted(data, gaps)
    encoders = Encoders(data.modalities, preprocessor, SMALL)
    tokens = encoders(preprocessor.inputs(data, ALL, gaps))
    sum(each.values.square().sum() for each in tokens).backward()
    without = [name for name, p in encoders.named_parameters() if p.grad is None]
    assert without == []
