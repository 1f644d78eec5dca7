"""Training pictures and volumes are altered by draws that belong to the case; nothing else is."""

# B batch, H W C height, width, channels, Z slices

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data import Dataset, Modality, PictureArray, Tokens
from bench.encoders import Encoders, Inputs, Preprocessor, fit_preprocessor
from bench.encoders.augmentation import Augmenter, altered_pictures, stacked
from bench.encoders.draws import Draws, G, bernstein
from bench.encoders.image import ImageEncoder
from bench.encoders.inputs import ModalityInput
from bench.engine.engine import fit
from bench.engine.inference import Model, Part
from bench.engine.stage import Training
from bench.method import Config, Stage
from bench.spec import Augmentation, EncoderConfig
from bench.store import StudyFolder
from bench.volumes import VolumeArray
from benchmarks.arena import some_weights
from tests.command_line import call, included, write_toy_release
from tests.toy_cases import dataset
from tests.toy_training import TRAIN, VALID, Toy, recipe

N = 40
NAMES = tuple(f"case{i}" for i in range(N))
STRONG: dict[str, Any] = {
    **{"p_h_flip": 0.5, "p_v_flip": 0.5, "p_quarter_turn": 0.5, "crop": 0.3, "noise": 1.0},
    **{"shift": 0.2, "scale": 0.3, "rotate": 45, "distort": 0.1, "erase": 0.5},
    **{"brightness": 0.2, "contrast": 0.2, "saturation": 0.3, "hue": 20},
}


def pictures(n: int = N, side: int = 8, channels: int = 3) -> Tensor:
    rng = np.random.default_rng(3)
    return torch.from_numpy(rng.integers(0, 256, (n, side, side, channels), dtype=np.uint8))


def altered(x: Tensor, names: Sequence[str] = NAMES, **settings: Any) -> Tensor:
    """Return all of the pictures altered."""
    draws = Draws.of(Augmentation(**settings), names, "test")
    return altered_pictures(x, torch.arange(len(x)), draws)


def cases(*, channels: int = 3) -> tuple[Dataset, Preprocessor]:
    """Return forty cases of two pictures, two volumes and a vector."""
    rng = np.random.default_rng(0)
    modalities = (
        Modality("left", "image", channels=channels, encoder="view"),
        Modality("right", "image", channels=channels, encoder="view"),
        Modality("t1", "volume"),
        Modality("flair", "volume"),
        Modality("genes", "vector", width=2),
    )
    picture = PictureArray(rng.integers(0, 256, (N, 8, 8, channels), dtype=np.uint8))
    volume = VolumeArray(rng.normal(100, 20, (N, 4, 8, 8, 1)).astype(np.float32))
    genes = rng.normal(size=(N, 2)).astype(np.float32)
    content = {"left": picture, "right": picture, "t1": volume, "flair": volume, "genes": genes}
    data = dataset(modalities, content, N)
    data = replace(data, label=np.arange(N) % 2)
    return data, fit_preprocessor(data, np.arange(N), data.natural())


def inputs(data: Dataset, fitted: Preprocessor, rows: np.ndarray | None = None) -> Inputs:
    return fitted.inputs(data, np.arange(N) if rows is None else rows, data.natural())


def same(a: ModalityInput, b: ModalityInput) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in ("pictures", "volumes", "vector")]
    return all(x is None or x.equal(y) for x, y in pairs)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_case_is_altered_alike_in_a_batch_of_any_size(size: int) -> None:
    data, fitted = cases()
    alter = Augmenter(Augmentation(**STRONG), fitted)
    whole = alter(inputs(data, fitted), NAMES, 0, 5)
    order = np.random.default_rng(1).permutation(N)  # other mates too
    for start in range(0, N, size):
        rows = order[start : start + size]
        batch = alter(inputs(data, fitted, rows), [NAMES[row] for row in rows], 0, 5)
        for m, each in enumerate(batch.content):
            assert same(each, whole.content[m].rows(torch.from_numpy(rows)))


def test_every_epoch_seed_and_case_has_its_own_draw() -> None:
    settings = Augmentation(**STRONG)
    numbers = [Draws.of(settings, NAMES, *keys).numbers for keys in [(0, 0), (0, 1), (1, 0)]]
    drawn = np.concatenate(numbers)
    assert len(np.unique(drawn)) == drawn.size
    assert (Draws.of(settings, NAMES, 0, 1).numbers == numbers[1]).all()


def test_altered_content_keeps_shape_type_and_range() -> None:
    data, fitted = cases()
    before = inputs(data, fitted)
    after = Augmenter(Augmentation(**STRONG), fitted)(before, NAMES, 0)
    for m, (old, new) in enumerate(zip(before.content, after.content, strict=True)):
        for name in ("pictures", "volumes", "vector"):
            x, y = getattr(old, name), getattr(new, name)
            assert (x is None) == (y is None)
            if x is not None:
                assert (x.shape, x.dtype) == (y.shape, y.dtype)
                assert y.float().isfinite().all()
                assert x.equal(y) == (m == 4)  # the vector alone is as it was


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pictures_of_any_number_of_channels_are_altered(channels: int) -> None:
    x = pictures(channels=channels)
    assert not altered(x, **STRONG).equal(x)


def test_no_strength_leaves_everything_as_it_is() -> None:
    data, fitted = cases()
    before = inputs(data, fitted)
    after = Augmenter(Augmentation(), fitted)(before, NAMES, 0)
    assert all(same(*each) for each in zip(before.content, after.content, strict=True))
    never = Augmenter(Augmentation(**STRONG, p=0), fitted)(before, NAMES, 0)
    assert all(same(*each) for each in zip(before.content, never.content, strict=True))


@pytest.mark.parametrize("side", [7, 8, 65])
def test_a_flip_is_a_flip(side: int) -> None:
    x = pictures(4, side)
    assert altered(x, NAMES[:4], p_h_flip=1).equal(x.flip(2))
    assert altered(x, NAMES[:4], p_v_flip=1).equal(x.flip(1))
    assert altered(x, NAMES[:4], p_v_flip=1, p_h_flip=1).equal(x.flip(1, 2))


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    x = pictures()
    found = altered(x, p_quarter_turn=1)
    turns = [
        [row.equal(old.rot90(k)) for k in (1, 2, 3)] for row, old in zip(found, x, strict=True)
    ]
    assert all(sum(each) == 1 for each in turns)
    assert all(any(column) for column in zip(*turns, strict=True))  # each of the three comes


def test_about_half_are_flipped_at_a_half() -> None:
    names = [str(i) for i in range(400)]
    flips = Draws.of(Augmentation(p_h_flip=0.5), names).h_flip
    assert 160 < flips.sum() < 240
    rarer = Draws.of(Augmentation(p_h_flip=0.5, p=0.5), names).h_flip
    assert 70 < rarer.sum() < 130
    assert not (rarer & ~flips).any()


def test_a_shift_moves_the_picture_and_reflects_what_comes_in() -> None:
    ramp = torch.arange(0, 240, 30, dtype=torch.uint8).expand(1, 8, 8)[..., None]
    draws = Draws.of(Augmentation(shift=0.5), ["a"])
    draws.numbers[:] = 0.5  # no shift
    draws.numbers[0, 6] = 0.75  # to the right by a quarter of the side: two pixels
    found = altered_pictures(ramp, torch.arange(1), draws)[0, 0, :, 0].tolist()
    assert found == [30, 0, 0, 30, 60, 90, 120, 150]


def test_a_scale_above_one_magnifies_about_the_centre() -> None:
    spot = torch.zeros(1, 16, 16, 1, dtype=torch.uint8)
    spot[0, 6:10, 6:10] = 255
    draws = Draws.of(Augmentation(scale=0.5), ["a"])
    draws.numbers[:] = 0.5
    sizes = []
    for u in (0.25, 0.5, 0.999):  # less would show reflections
        draws.numbers[0, 8] = u
        sizes.append(int((altered_pictures(spot, torch.arange(1), draws) > 127).sum()))
    assert sizes[0] < sizes[1] == 16 < sizes[2]


def test_a_rotation_of_a_wide_picture_keeps_its_shapes() -> None:
    bar = torch.zeros(1, 20, 40, 1, dtype=torch.uint8)
    bar[0, 9:11, 14:26] = 255  # 12 x 2 pixels
    draws = Draws.of(Augmentation(rotate=90), ["a"])
    draws.numbers[:] = 0.5
    draws.numbers[0, 9] = 0.0  # by 90 degrees
    found = altered_pictures(bar, torch.arange(1), draws)[0, :, :, 0] > 127
    rows, columns = found[:, 10:30].nonzero().T  # outside are reflections
    assert rows.max() - rows.min() + 1 == 12
    assert columns.max() - columns.min() + 1 == 2


def test_a_bend_moves_no_place_further_than_its_share() -> None:
    assert np.allclose(bernstein(9).sum(1), 1)
    bends = Draws.of(Augmentation(distort=0.1), NAMES).bends
    assert bends.shape == (N, 2, G, G)
    assert 0.15 < np.abs(bends).max() <= 0.2  # of the two units of a side
    x = pictures(side=32)
    assert not altered(x, distort=0.1).equal(x)


def test_colours_change_as_they_are_said_to() -> None:
    grey = torch.full((N, 2, 2, 3), 100, dtype=torch.uint8)
    brighter = altered(grey, brightness=0.2).float()
    assert (brighter - 100).abs().max() <= 51
    assert (brighter.amax((1, 2, 3)) == brighter.amin((1, 2, 3))).all()
    middle = torch.full((N, 2, 2, 3), 128, dtype=torch.uint8)
    assert (altered(middle, contrast=0.5).float() - 127.5).abs().max() <= 1
    assert altered(grey, saturation=1, hue=180).equal(grey)  # grey has neither
    red = torch.tensor([200, 40, 40], dtype=torch.uint8).expand(N, 2, 2, 3)
    paler = altered(red, saturation=0.5)[:, 0, 0].float()
    assert not paler.equal(red[:, 0, 0].float())
    assert torch.allclose(paler @ torch.tensor([0.299, 0.587, 0.114]), torch.tensor(87.8), atol=1)


def test_changing_one_strength_leaves_the_other_draws() -> None:
    x = pictures()
    assert altered(x, p_h_flip=0.5, shift=0.0).equal(altered(x, p_h_flip=0.5, noise=3.0))


@pytest.mark.parametrize("together", [True, False])
def test_pictures_share_their_draw_where_that_is_asked(together: bool) -> None:
    data, fitted = cases()
    settings = Augmentation(**STRONG | {"noise": 0}, together=together)
    content = Augmenter(settings, fitted)(inputs(data, fitted), NAMES, 0).content
    left, right, first, second = content[:4]  # the same pictures and volumes twice
    assert same(left, right) is together
    assert same(first, second) is together


def test_noise_is_of_each_volume_alone() -> None:
    data, fitted = cases()
    settings = Augmentation(noise=0.5, together=True)
    before = inputs(data, fitted)
    after = Augmenter(settings, fitted)(before, NAMES, 0)
    first, second = (x for each in after.content[2:4] if (x := each.volumes) is not None)
    assert not first.equal(second)
    old = before.content[2].volumes
    assert old is not None
    assert (first - old).std() < 0.5 * 20  # half a standard deviation at most


def test_a_crop_shifts_a_volume_and_fills_with_zeros() -> None:
    data, fitted = cases()
    before = inputs(data, fitted)
    old = before.content[2].volumes
    new = Augmenter(Augmentation(crop=0.5), fitted)(before, NAMES, 0).content[2].volumes
    assert old is not None
    assert new is not None
    moved = (new == 0).flatten(1).any(1)
    assert 0 < moved.sum() <= N
    for x, y in zip(old, new, strict=True):
        kept = y[y != 0]
        assert torch.isin(kept, x).all()  # no value is made up
    assert new[~moved].equal(old[~moved])


def test_an_erased_box_has_the_mean_of_training() -> None:
    data, fitted = cases()
    before = inputs(data, fitted)
    old = before.content[2].volumes
    new = Augmenter(Augmentation(erase=0.9), fitted)(before, NAMES, 0).content[2].volumes
    assert old is not None
    assert new is not None
    changed = new != old
    assert changed.any()
    assert torch.allclose(new[changed], torch.tensor(100.0), atol=2)
    for each in changed[..., 0]:
        place = each.nonzero()
        if len(place):  # what changed is a box
            sides = place.amax(0) - place.amin(0) + 1
            assert int(sides.prod()) == len(place)


def test_uint8_volumes_stay_uint8() -> None:
    data, _ = cases()
    voxels = np.random.default_rng(0).integers(0, 256, (N, 4, 8, 8, 1), dtype=np.uint8)
    data = replace(data, content={**data.content, "t1": VolumeArray(voxels)})
    fitted = fit_preprocessor(data, np.arange(N), data.natural())
    new = Augmenter(Augmentation(**STRONG), fitted)(inputs(data, fitted), NAMES, 0)
    assert new.content[2].volumes is not None
    assert new.content[2].volumes.dtype == torch.uint8


def test_absent_pictures_are_not_touched_and_inputs_stay() -> None:
    data, fitted = cases()
    available = np.random.default_rng(2).random((N, 5)) < 0.5
    data = replace(data, available=available)
    before = inputs(data, fitted)
    kept = [each.rows(torch.arange(N)) for each in before.content]
    after = Augmenter(Augmentation(**STRONG), fitted)(before, NAMES, 0)
    for m, each in enumerate(after.content):
        absent = torch.from_numpy(~available[:, m]).nonzero().flatten()
        assert same(each.rows(absent), kept[m].rows(absent))
        assert same(before.content[m], kept[m])  # a copy was altered
    assert after.observed.equal(before.observed)


# training


class Recorder(Toy):
    """Remembers the tokens that it was given in training and in validation."""

    def __init__(self, task: Any, config: Config):
        super().__init__(task, config)
        self.trained: list[Tensor] = []
        self.tested: list[Tensor] = []

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Any:
        self.tested.append(tokens[0].values.detach().clone())
        score = tokens[0].values.mean((1, 2)) * self.quality
        return super().forward(
            [tokens[0], replace(tokens[0], values=score[:, None, None])], available
        )

    def losses(self, tokens: Sequence[Tokens], *rest: Any) -> dict[str, Tensor]:
        self.trained.append(tokens[0].values.detach().clone())
        return super().losses(tokens, *rest)


def trained(
    settings: Augmentation | None, *, epochs: int = 2, copies: int = 0, frozen: bool = False
) -> Recorder:
    """Train on one picture a case."""
    data, _ = cases()
    data = replace(data, modalities=data.modalities[:1], available=data.available[:, :1])
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    augmenter = None if settings is None else Augmenter(settings, fitted)
    config = EncoderConfig(image="test_resnet", frozen=frozen)

    def build(stage: Stage | None) -> Model:
        torch.manual_seed(7)
        encoders = Encoders(data.modalities, fitted, config)
        return Model(encoders, Recorder(encoders.task(data.classes, 8), Config()))

    def part(rows: np.ndarray) -> Part:
        inputs = fitted.inputs(data, rows, data.natural())
        cases = tuple(data.cases[rows].tolist())
        several = augmenter.variants(inputs, cases) if augmenter is not None and copies else None
        fixed = None if several is None else stacked(several)
        return Part(inputs, torch.as_tensor(data.label[rows]), cases, fixed)

    training = Training(recipe(epochs=epochs), (None,), ("toy", 0), 2, augmenter)
    (member,) = fit(build, training, part(TRAIN), part(VALID), lambda row: None)
    method = member.model.method
    assert isinstance(method, Recorder)
    return method


def test_validation_is_never_altered() -> None:
    strong = Augmentation(p_v_flip=1, brightness=0.5)
    plain, found = trained(None, frozen=True), trained(strong, frozen=True)
    assert all(a.equal(b) for a, b in zip(plain.tested, found.tested, strict=True))
    assert not any(a.equal(b) for a, b in zip(plain.trained, found.trained, strict=True))


def test_training_repeats_byte_for_byte() -> None:
    first, second = trained(Augmentation(**STRONG)), trained(Augmentation(**STRONG))
    assert all(a.equal(b) for a, b in zip(first.trained, second.trained, strict=True))
    assert len(first.trained) == 6
    assert not first.trained[0].equal(trained(None).trained[0])


def test_a_frozen_encoder_sees_a_few_fixed_copies() -> None:
    method = trained(
        Augmentation(p_h_flip=0.5, shift=0.2, variants=2), epochs=6, copies=2, frozen=True
    )
    seen = torch.cat(method.trained).flatten(1)
    assert len(seen) == 6 * len(TRAIN)
    assert len(TRAIN) < len(seen.unique(dim=0)) <= 2 * len(TRAIN)


def test_copies_of_a_case_are_the_same_in_every_part_and_differ() -> None:
    data, fitted = cases()
    alter = Augmenter(Augmentation(**STRONG, variants=3), fitted, frozen=True)
    whole = alter.variants(inputs(data, fitted), NAMES)
    some = alter.variants(inputs(data, fitted, np.arange(5, 9)), NAMES[5:9])
    assert len(whole) == 3
    for a, b in zip(whole, some, strict=True):
        assert same(a.content[0].rows(torch.arange(5, 9)), b.content[0])
    assert not any(same(a.content[0], b.content[0]) for a, b in pairwise(whole))
    assert len(stacked(whole).observed) == 3 * N


def test_pictures_of_a_frozen_encoder_stay_and_volumes_do_not() -> None:
    data, fitted = cases()
    before = inputs(data, fitted)
    after = Augmenter(Augmentation(**STRONG), fitted, frozen=True)(before, NAMES, 0)
    assert same(before.content[0], after.content[0])
    assert not same(before.content[2], after.content[2])


@pytest.mark.parametrize("settings", [{"p": 1.5}, {"shift": -0.1}, {"rotate": 200}, {"blur": 1}])
def test_strengths_out_of_range_and_unknown_ones_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Augmentation(**settings)


# whole studies


def study(name: str, *settings: str) -> Path:
    """Train on thirty pictures; return the folder of the one run."""
    asked = ["run", *included("toy_release", "singles"), "-m", "concat:dropout", "-p", "singles"]
    asked += ["--dataset", "toy-release", "--data-root", "release", "--folds", "0", "--no-floor"]
    asked += [f"--set=encoder.{each}" for each in ("image=test_resnet", *settings)]
    assert call(*asked, "--set", "recipe.epochs=2", "--out", name, "--quiet") == 0
    (run,) = StudyFolder(Path(name), "main").runs()
    return run.path


def test_a_run_with_alterations_repeats_byte_for_byte_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_toy_release(tmp_path / "release")
    altering = "augment={p_h_flip: 0.5, shift: 0.1, brightness: 0.2}"
    first, second, plain = study("a", altering), study("b", altering), study("c")
    files = ("predictions.parquet", "preprocessor.json")
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()
    assert (first / files[0]).read_bytes() != (plain / files[0]).read_bytes()
    assert first.name == second.name != plain.name


def test_copies_for_a_frozen_encoder_are_encoded_once_for_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_toy_release(tmp_path / "release")
    some_weights("test_resnet", tmp_path / "weights.pt")
    encoded: list[int] = []
    forward = ImageEncoder.forward

    def counted(encoder: ImageEncoder, content: ModalityInput) -> Tensor:
        assert content.pictures is not None
        encoded.append(len(content.pictures) if len(content.pictures) > 1 else 0)
        return forward(encoder, content)

    monkeypatch.setattr(ImageEncoder, "forward", counted)
    settings = ("weights=weights.pt", "frozen=true")
    study("a", *settings)
    n_plain = sum(encoded)
    study("b", *settings, "augment={brightness: 0.3, variants: 2}")
    n_with_copies = sum(encoded)
    study("c", *settings, "augment={brightness: 0.3, variants: 2}")
    assert n_plain < n_with_copies == sum(encoded)
