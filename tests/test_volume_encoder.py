"""Volumes: read from files, standardised by the training part, encoded like everything else."""

# T tokens, D token width

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from bench.data import Availability, Dataset, Modality
from bench.encoders import Encoders, ModalityInput, fit_preprocessor
from bench.encoders.features import FeatureExtractor
from bench.encoders.nnmamba import NNMamba
from bench.encoders.pixels import VolumeStatistics
from bench.encoders.volume import VolumeEncoder
from bench.errors import BadData
from bench.spec import EncoderConfig
from bench.volumes import VolumeArray, VolumeFiles, read_volume
from tests.toy_cases import dataset

SHAPE = (2, 3, 4)
ALL = np.arange(6)
TRAIN = np.arange(4)
CONV3D = EncoderConfig()
NNMAMBA = EncoderConfig.model_validate({"volume": "nnmamba"})


def voxels(seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 3, (6, *SHAPE, channels)).astype(np.float32)


def scans(source: object, channels: int = 1) -> Dataset:
    """Six cases of one volume."""
    return dataset((Modality("ct", "volume", channels=channels),), {"ct": source})


def two_scans() -> Dataset:
    """Six cases of two volumes that share an encoder."""
    modalities = (Modality("t1", "volume", encoder="mri"), Modality("t2", "volume", encoder="mri"))
    content: dict[str, object] = {"t1": VolumeArray(voxels(0)), "t2": VolumeArray(voxels(1))}
    return dataset(modalities, content)


def refused(path: Path, because: str) -> None:
    with pytest.raises(BadData, match=because) as caught:
        read_volume(path, SHAPE)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


# files


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_nifti_axes_become_slices_rows_columns(tmp_path: Path, suffix: str) -> None:
    path, volume = tmp_path / f"a{suffix}", voxels()[0, ..., 0]
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.eye(4)), path)
    found = read_volume(path, SHAPE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., 0], volume)


def test_nifti_files_stored_mirrored_or_on_their_side_come_out_alike(tmp_path: Path) -> None:
    volume = voxels()[0, ..., 0].transpose(2, 1, 0)  # x, y, z
    mirrored = nibabel.Nifti1Image(volume[::-1], np.diag([-1.0, 1, 1, 1]))
    turned = nibabel.Nifti1Image(volume.transpose(1, 0, 2), np.eye(4)[[1, 0, 2, 3]])
    for name, image in (("mirrored", mirrored), ("turned", turned)):
        nibabel.save(image, tmp_path / f"{name}.nii")
        found = read_volume(tmp_path / f"{name}.nii", SHAPE)[..., 0]
        np.testing.assert_array_equal(found, volume.transpose(2, 1, 0))


def test_scaled_integers_of_nifti_come_out_as_what_they_stand_for(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full(SHAPE[::-1], 3, np.int16), np.eye(4))
    image.header.set_slope_inter(2.0, -1.0)
    nibabel.save(image, tmp_path / "a.nii")
    assert (read_volume(tmp_path / "a.nii", SHAPE) == 5).all()


def test_channels_come_last_from_either_format(tmp_path: Path) -> None:
    volume = voxels(channels=2)[0]
    np.save(tmp_path / "a.npy", volume)
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0, 3), np.eye(4)), tmp_path / "a.nii")
    for name in ("a.npy", "a.nii"):
        np.testing.assert_array_equal(read_volume(tmp_path / name, SHAPE, 2), volume)


def test_files_are_read_case_by_case_and_absent_ones_never(tmp_path: Path) -> None:
    for i, volume in enumerate(voxels()[:3]):
        np.save(tmp_path / f"{i}.npy", volume)
    paths = (tmp_path / "0.npy", None, tmp_path / "2.npy")
    files = VolumeFiles(paths, SHAPE)
    np.testing.assert_array_equal(files.read(np.array([2, 0])), voxels()[[2, 0]])
    assert files.read(np.zeros(0, int)).shape == (0, *SHAPE, 1)
    with pytest.raises(ValueError, match="this case has no volume"):
        files.read(np.array([1]))


def test_damaged_and_wrong_files_are_refused_by_name(tmp_path: Path) -> None:
    refused(tmp_path / "gone.npy", "no such volume file; complete the release")
    refused(tmp_path / "gone.nii", "no such volume file")
    refused(tmp_path / "a.dcm", r"read from \.nii, \.nii\.gz, \.npy files")
    for name in ("a.npy", "a.nii", "a.nii.gz"):
        (tmp_path / name).write_bytes(b"not a volume, but long enough to be looked at" * 20)
        refused(tmp_path / name, "not a readable volume")
    np.save(tmp_path / "cut.npy", voxels()[0])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-4])
    refused(tmp_path / "cut.npy", "not a readable volume")
    np.save(tmp_path / "text.npy", np.full(SHAPE, "a"))
    refused(tmp_path / "text.npy", "voxels are <U1; store plain numbers")


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(tmp_path / "a.npy", "not a readable volume")


def test_another_shape_is_refused_with_both_shapes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 5), np.float32))
    refused(tmp_path / "a.npy", r"is 2 x 3 x 5, the dataset promises 2 x 3 x 4 .*crop, pad or")
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.float32), np.eye(4)), tmp_path / "a.nii")
    refused(tmp_path / "a.nii", "is 4 x 3 x 2, the dataset promises 2 x 3 x 4")
    np.save(tmp_path / "b.npy", np.zeros((*SHAPE, 2), np.float32))
    refused(tmp_path / "b.npy", "is 2 x 3 x 4 x 2, .* 1 channel")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300])
def test_voxels_that_are_not_finite_are_refused(tmp_path: Path, wrong: float) -> None:
    volume = np.zeros(SHAPE)
    volume[1, 2, 3] = wrong
    np.save(tmp_path / "a.npy", volume)
    refused(tmp_path / "a.npy", "1 voxels are NaN or infinite")


def test_without_nibabel_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    refused(tmp_path / "a.nii", r"needs nibabel.*pip install 'missing-modality-bench\[formats\]'")


# preprocessing


def test_moments_are_those_of_the_training_volumes_that_are_there() -> None:
    values = voxels(channels=2)
    gaps = Availability(np.array([1, 0, 1, 1, 1, 1], bool)[:, None])
    data = scans(VolumeArray(values), channels=2)
    fitted = fit_preprocessor(data, TRAIN, gaps).of(0, VolumeStatistics)
    pooled = values[[0, 2, 3]].reshape(-1, 2).astype(np.float64)
    assert fitted.shape == (*SHAPE, 2)
    np.testing.assert_allclose(fitted.mean, pooled.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.std, pooled.std(0), rtol=1e-12)


def test_moments_keep_their_digits_far_from_zero_and_over_many_chunks() -> None:
    values = 1e4 + np.random.default_rng(0).random((30, 1, 1, 2, 1))
    data = dataset((Modality("ct", "volume"),), {"ct": VolumeArray(values)}, 30)
    fitted = fit_preprocessor(data, np.arange(30), data.natural()).of(0, VolumeStatistics)
    kept = values.astype(np.float32).astype(np.float64)
    assert fitted.std == pytest.approx((kept.std(),), rel=1e-9)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e6])
def test_volumes_without_spread_or_without_any_case_are_left_undivided(level: float) -> None:
    data = scans(VolumeArray(np.full((6, *SHAPE, 1), level, np.float32)))
    assert fit_preprocessor(data, TRAIN, data.natural()).of(0, VolumeStatistics).std == (1.0,)
    nobody = Availability(np.zeros((6, 1), bool))
    fitted = fit_preprocessor(data, TRAIN, nobody).of(0, VolumeStatistics)
    assert (fitted.mean, fitted.std, fitted.shape) == ((0.0,), (1.0,), (*SHAPE, 1))


def test_bytes_stay_bytes_until_they_are_encoded() -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, *SHAPE, 1), dtype=np.uint8)
    data = scans(VolumeArray(values))
    content: Any = fit_preprocessor(data, TRAIN, data.natural()).inputs(data, ALL, data.natural())
    assert content.content[0].volumes.dtype == torch.uint8


@pytest.mark.parametrize("planted", [np.nan, 1e6])
def test_the_content_of_absent_volumes_has_no_influence(planted: float) -> None:
    gaps = Availability(np.array([1, 0, 1, 1, 0, 1], bool)[:, None])
    values = voxels()
    other = np.where(gaps.modality[:, 0, None, None, None, None], values, np.float32(planted))
    found = []
    for each in (values, other):
        data = scans(VolumeArray(each))
        preprocessor = fit_preprocessor(data, TRAIN, gaps)
        torch.manual_seed(0)
        encoders = Encoders(data.modalities, preprocessor, CONV3D)
        found.append(encoders(preprocessor.inputs(data, ALL, gaps))[0].values)
    assert torch.equal(*found)
    assert not found[0][~torch.from_numpy(gaps.modality[:, 0])].any()


def test_present_volumes_that_break_their_promise_are_refused() -> None:
    wrong = voxels()
    wrong[2, 0, 0, 0] = np.nan
    integers = np.zeros((6, *SHAPE, 1), np.int64)
    for values, because in (
        (wrong, r"1 present volumes of 'ct' hold NaN or infinity; first: case 'case2'"),
        (integers, r"must be uint8 or float \(n, D, H, W, 1\), got int64"),
        (voxels(channels=2), r"got float32 \(4, 2, 3, 4, 2\)"),
    ):
        data = scans(VolumeArray(values))
        with pytest.raises(BadData, match=because):
            fit_preprocessor(data, TRAIN, data.natural())


def test_volumes_of_another_size_than_trained_on_are_refused() -> None:
    data = scans(VolumeArray(voxels()))
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    larger = scans(VolumeArray(np.zeros((6, 4, 4, 4, 1), np.float32)))
    with pytest.raises(BadData, match=r"volumes of 'ct' are \(4, 4, 4, 1\), the run was trained"):
        fitted.inputs(larger, ALL, larger.natural())


def test_blanking_a_volume_afterwards_is_the_same_as_a_gap() -> None:
    data = scans(VolumeArray(voxels()))
    gaps = Availability(np.array([1, 0, 1, 1, 0, 1], bool)[:, None])
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    restricted = fitted.inputs(data, ALL, data.natural()).restrict(torch.from_numpy(gaps.modality))
    mine, yours = restricted.content[0].volumes, fitted.inputs(data, ALL, gaps).content[0].volumes
    assert mine is not None
    assert yours is not None
    assert torch.equal(mine, yours)


# encoders


@pytest.mark.parametrize("config", [CONV3D, NNMAMBA])
@pytest.mark.parametrize(
    ("shape", "n_tokens"), [((24, 16, 32), 4), ((8, 8, 8), 1), ((1, 2, 17), 2)]
)
def test_both_networks_give_the_tokens_that_their_spec_promises(
    config: EncoderConfig, shape: tuple[int, int, int], n_tokens: int
) -> None:
    statistics = VolumeStatistics(shape=(*shape, 1), mean=(0.0,), std=(1.0,))
    encoder = VolumeEncoder(statistics, config).eval()
    assert (encoder.n_tokens, encoder.d_token) == (n_tokens, 128)
    with torch.no_grad():
        tokens = encoder(ModalityInput(volumes=torch.randn(2, *shape, 1)))
    assert tokens.shape == (2, n_tokens, 128)


def test_the_volumes_of_the_paper_give_128_tokens() -> None:
    statistics = VolumeStatistics(shape=(24, 128, 128, 1), mean=(0.0,), std=(1.0,))
    for config in (CONV3D, NNMAMBA):
        assert VolumeEncoder(statistics, config).n_tokens == 128


def test_the_network_sees_standardised_voxels_channels_first() -> None:
    statistics = VolumeStatistics(shape=(*SHAPE, 2), mean=(1.0, 2.0), std=(2.0, 4.0))
    encoder = VolumeEncoder(statistics, CONV3D).eval()
    seen: list[torch.Tensor] = []
    encoder.model.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    values = torch.randn(3, *SHAPE, 2)
    encoder(ModalityInput(volumes=values))
    expected = torch.stack([(values[..., 0] - 1) / 2, (values[..., 1] - 2) / 4], dim=1)
    torch.testing.assert_close(seen[0], expected)


def test_the_configuration_chooses_the_network() -> None:
    data = scans(VolumeArray(voxels()))
    preprocessor = fit_preprocessor(data, TRAIN, data.natural())
    for config, kind in ((CONV3D, nn.Sequential), (NNMAMBA, NNMamba)):
        encoder = Encoders(data.modalities, preprocessor, config).get_submodule("ct")
        assert isinstance(encoder.get_submodule("model"), kind)


def test_volumes_that_share_an_encoder_are_encoded_in_one_call_over_their_present_rows() -> None:
    data = two_scans()
    preprocessor = fit_preprocessor(data, TRAIN, data.natural())
    encoders = Encoders(data.modalities, preprocessor, CONV3D).eval()
    gaps = Availability(np.array([[1, 1], [1, 0], [1, 0], [0, 1], [1, 1], [1, 1]], bool))
    calls: list[int] = []
    encoder = encoders.get_submodule("mri")
    encoder.register_forward_hook(lambda module, given, out: calls.append(len(out)))
    t1, t2 = encoders(preprocessor.inputs(data, ALL, gaps))
    assert calls == [9]
    assert t1.valid.all(1).tolist() == gaps.modality[:, 0].tolist()
    assert t2.attribute.tolist() == [-1] * t2.values.shape[1]


def test_volumes_that_share_an_encoder_must_have_one_shape() -> None:
    data = two_scans()
    large = VolumeArray(np.zeros((6, 4, 4, 4, 1), np.float32))
    data = replace(data, content={**data.content, "t2": large})
    preprocessor = fit_preprocessor(data, TRAIN, data.natural())
    with pytest.raises(BadData, match=r"volumes that share .* t1 \(2, 3, 4, 1\), t2 \(4, 4, 4, 1"):
        Encoders(data.modalities, preprocessor, CONV3D)


@pytest.mark.parametrize("config", [CONV3D, NNMAMBA])
def test_a_single_volume_runs_on_running_statistics_and_leaves_them_alone(
    config: EncoderConfig,
) -> None:
    data = two_scans()
    preprocessor = fit_preprocessor(data, TRAIN, data.natural())
    encoders = Encoders(data.modalities, preprocessor, config).train()
    before = {name: value.clone() for name, value in encoders.state_dict().items()}
    one_row = np.zeros((6, 2), bool)
    one_row[3, 1] = True
    inputs = preprocessor.inputs(data, ALL, Availability(one_row))
    tokens = encoders(inputs)[1].values
    assert all(torch.equal(before[name], value) for name, value in encoders.state_dict().items())
    assert tokens.requires_grad
    assert torch.equal(tokens, encoders.eval()(inputs)[1].values)


# features


def test_volumes_give_the_components_of_their_block_means() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 9, 32, 3, 2)).astype(np.float32)
    modality = Modality("ct", "volume", channels=2)
    data = dataset((modality,), {"ct": VolumeArray(values)}, 30)
    extractor = FeatureExtractor.fit(data, np.arange(20), data.natural())
    assert extractor.components[0].axes.shape == (19, 8 * 16 * 3)
    gaps = Availability(np.arange(30)[:, None] % 2 == 0)
    features = extractor.transform(data, np.arange(30), gaps).values[0]
    assert np.isnan(features).all(1).tolist() == [False, True] * 15
    train = extractor.transform(data, np.arange(20), data.natural()).values[0]
    np.testing.assert_allclose(train.std(0), 1, rtol=1e-6)
    restored = FeatureExtractor.from_state(extractor.state())
    again = restored.transform(data, np.arange(30), gaps).values[0]
    np.testing.assert_array_equal(features, again)
