"""Tables as sentences: how they are written, read by a frozen model, and looked up."""

# B batch, A attributes, C token width

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoModel, BertConfig, BertModel

from bench.data import Attribute, Availability, Dataset, Modality, PictureArray
from bench.encoders import Encoders, Preprocessor, fit_preprocessor, preprocessing
from bench.encoders.hub import checksum
from bench.encoders.language import LanguageModel, sentence_features
from bench.encoders.preprocessing import CategoricalStatistics, NumericStatistics, TableStatistics
from bench.encoders.text import TextEncoder, in_digits, sentences_of
from bench.errors import BadConfig
from bench.method import Progress
from bench.methods.alignedfusion import PLUGIN as ALIGNED_FUSION
from bench.spec import EncoderConfig
from tests.command_line import call, included, write_toy_release
from tests.language_models import WORDS, save_bert, save_qwen, saved
from tests.toy_cases import dataset

ALL = np.arange(6)
SEX = Attribute("sex", "categorical", template="the {name} is {value}")
AGE = Attribute("age", template="{name} {value}")
SITE = Attribute("lesion_site", "categorical", template="{name} : {value}")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small BERT."""
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small Qwen2."""
    return save_qwen(tmp_path_factory.mktemp("qwen"))


def config(text: str, folder: Path | str) -> EncoderConfig:
    return EncoderConfig.model_validate({"text": text, "text_model": str(folder)})


def states(folder: Path, ids: list[int]) -> Tensor:
    """Return the last hidden states of some tokens straight from transformers."""
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state[0]


def places(words: str, offset: int) -> list[int]:
    return [offset + WORDS.index(word) for word in words.split()]


# features of sentences


def test_features_are_the_hidden_states_of_the_sentences_own_tokens(bert: Path) -> None:
    ids = [2, *places("the age of a patient is 6 ##3", 5), 3]
    (found,) = sentence_features(["the age of a patient is 63"], config("tokens", bert))
    assert found.shape == (8, 8)
    torch.testing.assert_close(found, states(bert, ids)[1:-1])


def test_a_word_that_the_vocabulary_lacks_keeps_its_slot(bert: Path) -> None:
    (found,) = sentence_features(["the zygoma"], config("tokens", bert))
    torch.testing.assert_close(found, states(bert, [2, *places("the", 5), 1, 3])[1:-1])


def test_cls_gives_one_vector_of_the_whole_sentence(bert: Path) -> None:
    ids = [2, *places("age of a patient", 5), 3]
    (found,) = sentence_features(["age of a patient"], config("cls", bert))
    torch.testing.assert_close(found, states(bert, ids)[:1])


def test_the_token_that_a_class_would_put_first_is_put_first(qwen: Path) -> None:
    (found,) = sentence_features(["the age is 6"], config("tokens", qwen))
    torch.testing.assert_close(found, states(qwen, [0, *places("the age is 6", 2)])[1:])


def test_sentences_read_together_are_read_as_if_alone(bert: Path, qwen: Path) -> None:
    sentences = ["sex", "the sex is f", "age of a patient", "the age is 6", "sex"]
    for folder in (bert, qwen):
        model = LanguageModel("toy", folder, "cpu")
        together = model.read(sentences, cls=False)
        for sentence, found in zip(sentences, together, strict=True):
            torch.testing.assert_close(found, model.read([sentence], cls=False)[0])


@pytest.mark.parametrize("kept", ["vocab.txt", "tokenizer.json"])
def test_a_vocabulary_alone_reads_like_a_tokenizer_file(
    bert: Path, tmp_path: Path, kept: str
) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "bert"))
    if kept == "tokenizer.json":
        vocabulary = (folder / "vocab.txt").read_text().split()
        words = {word: i for i, word in enumerate(vocabulary)}
        tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "vocab.txt").unlink()
    (found,) = sentence_features(["the age is 63 ."], config("tokens", folder))
    ids = [2, *places("the age is 6 ##3 .", 5), 3]
    torch.testing.assert_close(found, states(bert, ids)[1:-1])


def test_a_second_process_finds_every_sentence_and_loads_no_model(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = ["the age is 6", "sex", "sex"]
    first = sentence_features(sentences, config("tokens", bert))
    monkeypatch.setattr(AutoModel, "from_pretrained", pytest.fail)
    again = sentence_features(sentences[::-1], config("tokens", bert))
    assert all(torch.equal(x, y) for x, y in zip(first, again[::-1], strict=True))


def test_each_distinct_sentence_is_read_once(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = LanguageModel.read

    def noting(model: LanguageModel, sentences: Any, *, cls: bool) -> list[Tensor]:
        asked.extend(sentences)
        return read(model, sentences, cls=cls)

    monkeypatch.setattr(LanguageModel, "read", noting)
    for _ in range(2):
        sentence_features(["sex", "age", "sex"], config("tokens", bert))
    sentence_features(["age", "site"], config("tokens", bert))
    assert asked == ["sex", "age", "site"]


def test_other_weights_and_other_features_are_not_confused(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "other"))
    torch.manual_seed(1)
    saved(BertModel(BertConfig.from_pretrained(folder)), folder)
    tokens, other, cls = (
        sentence_features(["age"], each)[0]
        for each in (config("tokens", bert), config("tokens", folder), config("cls", bert))
    )
    assert not torch.allclose(tokens, other)
    assert not torch.allclose(tokens, cls)


def test_reading_sentences_moves_no_random_numbers(bert: Path) -> None:
    drawn = []
    for sentence in ("sex", "sex"):  # read, then found
        torch.manual_seed(0)
        sentence_features([sentence], config("tokens", bert))
        drawn.append(torch.rand(3))
    torch.manual_seed(0)
    assert torch.equal(drawn[0], torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])


# models that cannot be had


def refused(each: EncoderConfig) -> str:
    with pytest.raises(BadConfig) as caught:
        sentence_features(["age"], each)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the hub's client an empty cache and no network; note what it is asked."""
    asked: list[str] = []

    def nobody(url: str, **settings: object) -> None:
        asked.append(url)
        raise ConnectionError("name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", nobody)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return asked


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tokens", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"),
        ("cls", "emilyalsentzer/Bio_ClinicalBERT"),
    ],
)
def test_without_a_network_the_default_model_is_asked_for_once_and_named(
    offline: list[str], text: str, name: str
) -> None:
    said = refused(config(text, ""))
    assert said == (
        f"encoder.text_model={name} cannot be had (ConnectionError: name or service not known); "
        "give the folder of a model with encoder.text_model=PATH, or learn attribute tokens with "
        "encoder.text=''"
    )
    assert len(offline) == 1


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(
    offline: list[str], tmp_path: Path
) -> None:
    assert "cannot be had (there is no such folder)" in refused(config("cls", tmp_path / "gone"))
    assert offline == []


def test_a_model_in_the_cache_of_the_hub_is_read_without_asking(
    offline: list[str], tmp_path: Path, bert: Path
) -> None:
    folder = tmp_path / "hub" / "models--somebody--bert"
    shutil.copytree(bert, folder / "snapshots" / ("0" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    (found,) = sentence_features(["age"], config("tokens", "somebody/bert"))
    assert torch.equal(found, sentence_features(["age"], config("tokens", bert))[0])
    assert offline == []


def test_files_of_the_hub_are_known_by_their_names_and_others_by_their_content(
    tmp_path: Path,
) -> None:
    blob = tmp_path / "blobs" / "abc"
    blob.parent.mkdir()
    blob.write_text("weights")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert checksum(tmp_path / "model.safetensors") == "abc"
    plain = tmp_path / "plain"
    plain.write_text("weights")
    before = checksum(plain)
    plain.write_text("changed")
    assert checksum(plain) != before


@pytest.mark.parametrize("name", ["models/of/mine", "./mine"])
def test_what_looks_like_a_path_is_taken_for_one(offline: list[str], name: str) -> None:
    assert "cannot be had (there is no such folder)" in refused(config("tokens", name))
    assert offline == []


def test_a_folder_without_a_model_is_refused(tmp_path: Path, bert: Path) -> None:
    assert "has no tokenizer that can be loaded" in refused(config("tokens", tmp_path))
    for name in ("tokenizer_config.json", "vocab.txt", "config.json"):
        if (bert / name).is_file():
            shutil.copy(bert / name, tmp_path / name)
    assert "cannot be loaded" in refused(config("tokens", tmp_path))


def test_a_blank_has_what_the_tokenizer_puts_around_it(bert: Path) -> None:
    (found,) = sentence_features([" "], config("tokens", bert))
    torch.testing.assert_close(found, states(bert, [2, 3]))


def test_a_sentence_that_the_model_cannot_hold_is_refused(bert: Path) -> None:
    with pytest.raises(BadConfig, match="gives no hidden states of sentences"):
        sentence_features(["the " * 40], config("tokens", bert))


def test_a_model_without_cls_is_refused_for_cls(qwen: Path) -> None:
    said = refused(config("cls", qwen))
    assert said.endswith("has no [CLS] that sees the sentence; use encoder.text=tokens")


# sentences


def test_every_code_of_a_category_has_its_sentence() -> None:
    fitted = CategoricalStatistics(vocabulary=("lower limb", "back"), seen=(True, False))
    assert sentences_of(SITE, fitted) == [
        "lesion site : other",
        "lesion site : lower limb",
        "lesion site : back",
    ]


def test_numbers_are_written_as_a_person_would() -> None:
    assert [in_digits(x) for x in (63.0, -2.0, 0.0, 1e6, 0.5, 17.990001, 1 / 3)] == (
        ["63", "-2", "0", "1000000", "0.5", "17.99", "0.333333"]
    )
    fitted = NumericStatistics(mean=1.0, std=1.0, edges=(1.0, 1.0, 1.0), values=(1.0, 2.5))
    assert sentences_of(AGE, fitted) == ["age 1", "age 2.5"]


def test_numbers_need_the_values_that_the_preprocessing_kept() -> None:
    fitted = NumericStatistics(mean=1.0, std=1.0, edges=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="keep_values=True"):
        sentences_of(AGE, fitted)


def ages(cells: list[float], n_train: int, *, keep_values: bool = True) -> NumericStatistics:
    data = dataset(
        (Modality("clinical", "table", (AGE,)),),
        {"clinical": pd.DataFrame({"age": cells})},
        len(cells),
    )
    fitted = fit_preprocessor(data, np.arange(n_train), data.natural(), keep_values=keep_values)
    (age,) = fitted.of(0, TableStatistics).attributes
    assert isinstance(age, NumericStatistics)
    return age


def test_the_distinct_values_of_the_training_part_get_a_sentence_each() -> None:
    assert ages([3.0, 1.0, np.nan, 3.0, 9.0], 4).values == (1.0, 3.0)
    assert ages([3.0, 1.0], 2, keep_values=False).values is None
    assert ages([np.nan, np.nan, 7.0], 2).values == ()


def test_very_many_values_become_the_percentiles_that_occur(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = [float(x) for x in range(1001)]
    assert ages(cells, 1001).values == tuple(range(0, 1001, 10))
    monkeypatch.setattr(preprocessing, "MAX_VALUES", 1001)
    assert ages(cells, 1001).values == tuple(range(1001))


# tables


def clinical() -> Dataset:
    """Six cases of a sex, an age and a site; the last two are not trained on."""
    frame = pd.DataFrame(
        {
            "sex": ["f", "m", "f", None, "f", "x"],
            "age": [60.0, 61.0, 63.0, 65.0, 61.9, np.nan],
            "lesion_site": ["back", "lower limb", "back", None, "lower limb", "back"],
        }
    )
    modality = Modality("clinical", "table", (SEX, AGE, SITE))
    return dataset((modality,), {"clinical": frame})


def built(data: Dataset, each: EncoderConfig) -> tuple[Encoders, Preprocessor]:
    fitted = fit_preprocessor(data, np.arange(4), data.natural(), keep_values=True)
    return Encoders(data.modalities, fitted, each), fitted


def test_each_attribute_owns_a_run_of_slots_as_long_as_its_longest_sentence(bert: Path) -> None:
    data = clinical()
    encoders, fitted = built(data, config("tokens", bert))
    (spec,) = encoders.specs
    assert spec.attribute == (0,) * 4 + (1,) * 3 + (2,) * 5  # lesion is unknown: one token
    assert (spec.n_tokens, spec.d_token) == (12, 8)
    assert spec.attribute_names == ("sex", "age", "lesion_site")
    tokens = encoders(fitted.inputs(data, ALL, data.natural()))[0]
    assert tokens.values.shape == (6, 12, 8)
    lengths = [[4, 3, 4], [4, 3, 5], [4, 3, 4], [0, 3, 0], [4, 3, 5], [4, 0, 4]]
    starts = np.array([0, 4, 7])
    for b, row in enumerate(lengths):
        expected = np.zeros(12, bool)
        for start, length in zip(starts, row, strict=True):
            expected[start : start + length] = True
        assert tokens.valid[b].tolist() == expected.tolist()
    assert not tokens.values[~tokens.valid].any()
    assert tokens.attribute.tolist() == list(spec.attribute)


def test_the_valid_slots_of_an_attribute_hold_its_sentence(bert: Path) -> None:
    data = clinical()
    each = config("tokens", bert)
    encoders, fitted = built(data, each)
    tokens = encoders(fitted.inputs(data, ALL, data.natural()))[0]
    expected = {
        (0, 0): "the sex is f",
        (5, 0): "the sex is other",  # x was never seen in training
        (2, 1): "age 63",
        (4, 1): "age 61",  # the value of the training part that is nearest to 61.9
        (3, 1): "age 65",
        (1, 2): "lesion site : lower limb",
    }
    for (b, a), sentence in expected.items():
        slots = tokens.valid[b] & (tokens.attribute == a)
        torch.testing.assert_close(tokens.values[b, slots], sentence_features([sentence], each)[0])


def test_a_number_with_one_value_in_training_always_gets_its_sentence(bert: Path) -> None:
    frame = pd.DataFrame({"age": [6.0, 6.0, 6.0, 6.0, 63.0, np.nan]})
    data = dataset((Modality("clinical", "table", (AGE,)),), {"clinical": frame})
    encoders, fitted = built(data, config("tokens", bert))
    tokens = encoders(fitted.inputs(data, ALL, data.natural()))[0]
    assert torch.equal(tokens.values[4], tokens.values[0])
    assert tokens.valid.all(1).tolist() == [True] * 5 + [False]


def test_cls_gives_a_table_one_slot_per_attribute(bert: Path) -> None:
    data = clinical()
    each = config("cls", bert)
    encoders, fitted = built(data, each)
    tokens = encoders(fitted.inputs(data, ALL, data.natural()))[0]
    assert encoders.specs[0].attribute == (0, 1, 2)
    assert torch.equal(tokens.valid, tokens.codes >= 0)
    (expected,) = sentence_features(["lesion site : back"], each)
    torch.testing.assert_close(tokens.values[2, 2:], expected)


def test_the_vector_of_a_value_is_the_mean_of_its_sentence(bert: Path) -> None:
    each = config("tokens", bert)
    encoders, _ = built(clinical(), each)
    (spec,) = encoders.specs
    assert spec.value_tokens is not None
    assert spec.value_tokens.shape == (sum(spec.n_codes), 8)
    written = ["the sex is other", "the sex is f", "the sex is m"]
    written += ["age 60", "age 61", "age 63", "age 65"]  # quartiles up to 60.75, 62 and 63.5
    written += ["lesion site : other", "lesion site : back", "lesion site : lower limb"]
    expected = torch.stack([x.mean(0) for x in sentence_features(written, each)])
    torch.testing.assert_close(spec.value_tokens, expected)


def test_a_number_whose_quartiles_coincide_has_a_vector_for_each(bert: Path) -> None:
    constant = NumericStatistics(mean=6.0, std=1.0, edges=(6.0, 6.0, 6.0), values=(6.0,))
    nothing = NumericStatistics(mean=0.0, std=1.0, edges=(0.0, 0.0, 0.0), values=())
    fitted = TableStatistics(attributes=(constant, nothing))
    encoder = TextEncoder((AGE, replace(AGE, name="sex")), fitted, config("cls", bert))
    expected = sentence_features(["age 6"] * 4 + ["sex 0"] * 4, config("cls", bert))
    torch.testing.assert_close(encoder.value_tokens, torch.cat(expected))


@pytest.mark.parametrize("text", ["tokens", "cls"])
@pytest.mark.parametrize("planted", [float("nan"), 61.0])
def test_the_content_of_what_is_not_observed_leaves_every_token_bit_equal(
    bert: Path, text: str, planted: float
) -> None:
    data = clinical()
    seen = data.natural().attributes[0] & (np.arange(18).reshape(6, 3) % 4 > 0)
    gaps = Availability(np.array([1, 1, 0, 1, 1, 1], bool)[:, None], {0: seen})
    frame = data.table("clinical").copy()
    absent = ~(seen & gaps.modality)
    frame.loc[absent[:, 0], "sex"] = "m"
    frame.loc[absent[:, 1], "age"] = planted
    found = []
    for each in (data, replace(data, content={"clinical": frame})):
        fitted = fit_preprocessor(each, np.arange(4), gaps, keep_values=True)
        encoders = Encoders(each.modalities, fitted, config(text, bert))
        found.append(encoders(fitted.inputs(each, ALL, gaps))[0])
    assert torch.equal(found[0].values, found[1].values)
    assert torch.equal(found[0].valid, found[1].valid)


def test_tokens_of_a_gap_made_afterwards_are_those_of_the_gap(bert: Path) -> None:
    data = clinical()
    encoders, fitted = built(data, config("tokens", bert))
    seen = data.natural().attributes[0] & (np.arange(18).reshape(6, 3) % 4 > 0)
    present = np.array([1, 1, 0, 1, 1, 1], bool)
    later = encoders(fitted.inputs(data, ALL, data.natural()))[0]
    later = later.restrict(torch.from_numpy(present), torch.from_numpy(seen))
    gaps = Availability(present[:, None], {0: seen})
    before = encoders(fitted.inputs(data, ALL, gaps))[0]
    assert torch.equal(later.values, before.values)
    assert torch.equal(later.valid, before.valid)


def test_content_left_in_the_table_of_an_absent_case_is_not_read(bert: Path) -> None:
    data = clinical()
    encoders, fitted = built(data, config("tokens", bert))
    inputs = fitted.inputs(data, ALL, data.natural())
    absent = replace(inputs, observed=torch.zeros(6, 1, dtype=torch.bool))
    tokens = encoders(absent)[0]
    assert not tokens.valid.any()
    assert not tokens.values.any()
    assert (tokens.codes == -1).all()


def test_sentences_have_no_parameters_and_leave_other_encoders_as_they_were(bert: Path) -> None:
    data = clinical()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), dtype=np.uint8)
    data = replace(
        data,
        modalities=(*data.modalities, Modality("view", "image")),
        content={**data.content, "view": PictureArray(pixels)},
        available=np.ones((6, 2), bool),
    )
    each = EncoderConfig.model_validate(
        {"image": "test_resnet", "text": "tokens", "text_model": str(bert)}
    )
    encoders = []
    for _ in range(2):  # sentences are read, then found
        torch.manual_seed(3)
        encoders.append(built(data, each)[0])
    first, second = (one.state_dict() for one in encoders)
    assert list(first) == list(second)
    assert all(name.startswith("view.") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_methods_train_on_sentences(bert: Path) -> None:
    data = clinical()
    encoders, fitted = built(data, config("cls", bert))
    tokens = encoders(fitted.inputs(data, ALL, data.natural()))
    method = ALIGNED_FUSION(encoders.task(data.classes, 16), ALIGNED_FUSION.config_class())
    progress = Progress("train", 0, 0, 1, torch.Generator().manual_seed(0))
    observed = torch.ones(6, 1, dtype=torch.bool)
    losses = method.train().losses(tokens, observed, torch.tensor([0, 1, 0, 1, 0, 1]), progress)
    torch.stack(list(losses.values())).sum().backward()
    assert "reconstruction" in losses
    assert all(loss.isfinite() for loss in losses.values())
    assert method.eval()(tokens, observed).logits.isfinite().all()


def test_a_study_reads_tables_as_sentences_and_goes_on_from_its_checkpoint(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_toy_release(tmp_path / "release")
    monkeypatch.chdir(tmp_path)
    asked = [
        "run",
        *included("toy_release", "singles"),
        *("--dataset", "toy-release", "--data-root", "release", "--folds", "0", "--no-floor"),
        *("--set", "encoder.text=tokens", "--set", f"encoder.text_model={bert}"),
        *("--set", "encoder.image=test_resnet", "--set", "recipe.epochs=1", "--quiet"),
        *("-m", "elementwise-sum"),
    ]
    assert call(*asked, "-p", "singles") == 0
    caption = " ".join(capsys.readouterr().out.split())
    assert f"tables: sentences read by {bert} (frozen, all tokens)" in caption
    assert call(*asked) == 0
