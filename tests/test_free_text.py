"""Attributes from free text: what is not mentioned stays unknown, whoever reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

from bench.errors import BadConfig, BadData, BadRequest
from bench.free_text import Rules, attributes_of, checked_rules, with_corrections, write_attributes
from bench.free_text.clauses import is_negated
from bench.free_text.instruction import UNMENTIONED, InstructionSelector
from bench.manifest.attribute_tables import write_tables
from tests.command_line import call
from tests.own_data import load

RULES: dict[str, Any] = {
    "network": {
        "values": {
            "typical": ["typical pigment network", "regular network"],
            "atypical": ["atypical pigment network", "irregular network"],
        },
        "negated": "absent",
    },
    "regression": {"values": {"present": ["regression structures", "re:scar[- ]?like areas?"]}},
    "margin": {"values": ["sharp", "blurred"]},
}


def read(report: str | None, rules: dict[str, Any] | None = None, **more: Any) -> list[str | None]:
    """Return the values of one report."""
    return list(attributes_of([report], rules or RULES, **more).iloc[0])


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ("Atypical pigment network, sharp margin.", ["atypical", None, "sharp"]),
        ("typical  Pigment\nnetwork", ["typical", None, None]),  # not the end of `atypical`
        ("Scar-like area at the rim", [None, "present", None]),
        ("No atypical pigment network is seen.", ["absent", None, None]),
        ("No regression structures.", [None, None, None]),  # no value is declared for that
        ("Nothing of interest.", [None, None, None]),
        ("sharply cut", [None, None, None]),  # whole words only
        ("sharp, in places blurred", [None, None, None]),  # two values are none
        ("irregular network; later regular network", [None, None, None]),
        ("sharp above and sharp below", [None, None, "sharp"]),
        ("", [None, None, None]),
        (None, [None, None, None]),
    ],
)
def test_a_value_is_found_where_it_is_mentioned(
    report: str | None, found: list[str | None]
) -> None:
    assert read(report) == found


def test_one_row_per_report_and_one_column_per_attribute() -> None:
    found = attributes_of([None, "blurred", " "], RULES)
    assert list(found.columns) == list(RULES)
    assert found.margin.tolist() == [None, "blurred", None]
    assert attributes_of([], RULES).shape == (0, 3)


@pytest.mark.parametrize(("several", "found"), [("first", "sharp"), ("last", "blurred")])
def test_of_several_values_the_rules_can_choose(several: str, found: str) -> None:
    rules = {"margin": RULES_OF_MARGIN | {"several": several}}
    assert read("sharp here, blurred there", rules) == [found]


RULES_OF_MARGIN = {"values": ["sharp", "blurred"]}


def test_the_longer_phrase_at_a_place_is_meant() -> None:
    rules = {"size": {"values": {"large": ["large"], "small": ["not so large"]}}}
    assert read("a lesion not so large", rules) == ["small"]


@pytest.mark.parametrize(
    ("report", "negated"),
    [
        ("no ULCER", True),
        ("No bleeding, scale or ulcer", True),
        ("No bleeding, ulcer or scale", True),
        ("No bleeding, ulcer at the rim", False),
        ("No bleeding. An ulcer", False),
        ("no bleeding but an ulcer", False),
        ("No scale of 3.5 mm ulcer", True),  # a decimal point ends nothing
        ("without any evidence of an ulcer", True),
        ("patient denies ulcer", True),
        ("ulcer is not seen", True),
        ("Ulcer: absent", True),
        ("ulcer (negative)", True),
        ("ulcer, which is not painful", False),
        ("not only an ulcer", False),
        ("cannot exclude an ulcer", False),
        ("no significant change of the ulcer", False),
        ("there wasn't an ulcer", True),
        ("no\nulcer", True),  # a wrapped line
        ("Scale: no\nUlcer at the rim", False),
        ("did not feel pain in the area where a large ulcer is", False),  # too far
        ("nodule with an ulcer", False),
    ],
)
def test_a_cue_negates_what_stands_near_it_in_its_clause(report: str, negated: bool) -> None:
    start = report.lower().index("ulcer")
    assert is_negated(report, start, start + 5) is negated


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({}, "the rules name no attribute"),
        ({"a": {}}, "rules.a.values: field required"),
        ({"a": {"values": {}}}, "rules.a.values: value should have at least 1 item"),
        ({"a": {"values": {"x": ["re:("]}}}, r"rules.a.values: 're:\(' is no regular expression"),
        ({"a": {"values": {"x": ["re:y*"]}}}, "matches an empty text"),
        ({"a": {"values": {"x": [" "]}}}, "a phrase is blank"),
        ({"a": {"values": {" ": ["y"]}}}, "a value is blank"),
        ({"a": {"values": ["x"], "negated": ""}}, "negated is blank"),
        ({"a": {"values": ["x"], "absent": "y"}}, "rules.a.absent: extra inputs"),
        ({"a": {"values": ["x"], "several": "all"}}, "rules.a.several: input should be"),
        ({"a": ["x"]}, "rules.a: input should be"),
        ({"case": {"values": ["x"]}}, "cannot be named 'case'"),
    ],
)
def test_rules_that_cannot_be_used_are_refused_in_one_line(
    rules: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadConfig, match=reason) as raised:
        checked_rules(rules)
    assert "\n" not in str(raised.value)


def test_the_vocabulary_has_the_value_of_a_negated_mention() -> None:
    rules = checked_rules(RULES)
    assert rules["network"].vocabulary == ("typical", "atypical", "absent")
    assert rules["margin"].vocabulary == ("sharp", "blurred")


def test_a_selector_of_ones_own_is_held_to_the_vocabulary() -> None:
    class Always:
        def read(self, reports: Sequence[str], rules: Rules) -> list[dict[str, str | None]]:
            return [dict.fromkeys(rules, report) for report in reports]

    rules = {"margin": RULES_OF_MARGIN}
    assert read("sharp", rules, selector=Always()) == ["sharp"]
    with pytest.raises(ValueError, match="'round', which its rules do not know"):
        read("round", rules, selector=Always())


# the table that a person corrects


def written(path: Path, reports: list[str | None]) -> tuple[pd.DataFrame, list[str]]:
    cases = [f"c{i}" for i in range(len(reports))]
    found = attributes_of(reports, RULES)
    write_attributes(path, cases, reports, found)
    return found, cases


def test_a_written_table_handed_back_changes_nothing(tmp_path: Path) -> None:
    reports = ["sharp", 'a "regular network",\nblurred', None]
    found, cases = written(tmp_path / "table.csv", reports)
    assert with_corrections(found, cases, RULES, tmp_path / "table.csv").equals(found)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[:2] == ["case,network,regression,margin,report", "c0,,,sharp,sharp"]


def test_a_corrected_table_wins_and_its_blanks_too(tmp_path: Path) -> None:
    found, cases = written(tmp_path / "all.csv", ["sharp", "sharp", "sharp"])
    table = tmp_path / "corrected.csv"
    table.write_text("case,margin,network,note\nc2,blurred,absent,seen again\nc0,,,\n")
    corrected = with_corrections(found, cases, RULES, table)
    assert corrected.margin.tolist() == [None, "sharp", "blurred"]
    assert corrected.network.tolist() == [None, None, "absent"]
    assert found.margin.tolist() == ["sharp"] * 3
    table.write_text(table.read_text().replace(",", ";"))  # as some spreadsheets save it
    assert with_corrections(found, cases, RULES, table).equals(corrected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("case,margin\nc0,round\n", "line 2: margin is 'round'; it must be one of sharp, blurred"),
        ("case,margin\nc9,sharp\n", "line 2: case is 'c9'; it must be a case of the data"),
        ("case,margin\nc0,sharp\nc0,sharp\n", "line 3: case is 'c0'; it must be there once only"),
        ("case,rim\nc0,sharp\n", "no column is one of network, regression, margin"),
        ("margin\nsharp\n", "column case is missing"),
    ],
)
def test_a_wrong_correction_names_line_and_column(tmp_path: Path, text: str, reason: str) -> None:
    found, cases = written(tmp_path / "all.csv", ["sharp"])
    (tmp_path / "wrong.csv").write_text(text)
    with pytest.raises(BadData, match=reason):
        with_corrections(found, cases, RULES, tmp_path / "wrong.csv")


def test_a_table_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    written(path, ["sharp"])
    with pytest.raises(BadConfig, match="is there already and may hold corrections"):
        written(path, ["blurred"])
    with pytest.raises(BadConfig, match="cannot be written"):
        written(tmp_path / "nowhere" / "table.csv", ["blurred"])


# in a manifest

MANIFEST = """\
table: lesions.csv
case: lesion
label: diagnosis
modalities:
  clinical:
    table: [age]
  report:
    report: text
    rules:
      network: {values: {typical: [regular network], atypical: irregular network}, negated: absent}
      margin: {values: [sharp, blurred]}
"""
TEXTS = ("Regular network, sharp", "no irregular network", "", "blurred, not sharp")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["lesion,diagnosis,age,text"]
    lines += [f'c{i},{"ab"[i % 2]},{40 + i},"{TEXTS[i % 4]}"' for i in range(12)]
    (folder / "lesions.csv").write_text("\n".join(lines) + "\n")
    (folder / "lesions.yaml").write_text(MANIFEST)
    return folder / "lesions.yaml"


def test_a_report_of_a_manifest_becomes_attributes_with_gaps(manifest: Path) -> None:
    data = load(manifest)
    assert [each.name for each in data.modalities[1].attributes] == ["network", "margin"]
    cells = data.table("report").iloc[:4]
    assert cells.network.fillna("-").tolist() == ["typical", "absent", "-", "-"]
    assert cells.margin.fillna("-").tolist() == ["sharp", "-", "-", "blurred"]
    assert data.available[:4, 1].tolist() == [True, True, False, True]


def test_the_command_writes_the_table_and_the_corrected_one_wins(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, before = manifest.parent, load(manifest)
    table = folder / "attributes.csv"
    asked = ["prepare", str(manifest), "--out", str(folder), "--attributes", str(table)]
    assert call(*asked) == 0
    assert "12 cases, 2 attributes of 'report', 50 % mentioned" in capsys.readouterr().out
    table.write_text(table.read_text().replace("c2,,,", "c2,,sharp,"))
    manifest.write_text(MANIFEST.replace("    rules:", "    corrected: attributes.csv\n    rules:"))
    after = load(manifest)
    assert after.table("report").margin.tolist()[2] == "sharp"
    assert after.available[2, 1]
    assert after.fingerprint != before.fingerprint
    assert table in after.files
    assert call(*asked) == 2
    assert "is there already and may hold corrections" in capsys.readouterr().err


def test_a_model_named_in_a_manifest_reads_in_place_of_the_phrases(
    manifest: Path, model: Path
) -> None:
    manifest.write_text(MANIFEST.replace("    rules:", f"    model: {model}\n    rules:"))
    data = load(manifest)
    network = {"values": ["typical", "atypical"], "negated": "absent"}
    rules = {"network": network, "margin": RULES_OF_MARGIN}
    expected = attributes_of([text or None for text in TEXTS], rules, model=str(model))
    assert data.table("report").iloc[:4].fillna("-").equals(expected.fillna("-"))
    assert model / "model.safetensors" in data.files


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[sharp, blurred]", "[]", r"lesions.yaml, line 9: .*rules: rules.margin.values: "),
        ("[sharp, blurred]", "{x: 're:('}", "is no regular expression"),
        ("    rules:", "    corrected: gone.csv\n    rules:", "'gone.csv' is not in"),
        ("    rules:", "    corrected: ../out.csv\n    rules:", "leaves the data root"),
        ("    rules:", "    model: nowhere\n    rules:", "is no folder with a model"),
    ],
)
def test_wrong_rules_of_a_manifest_are_one_line(
    manifest: Path, old: str, new: str, reason: str
) -> None:
    (manifest.parent.parent / "out.csv").write_text("case,margin\n")
    manifest.write_text(MANIFEST.replace(old, new))
    with pytest.raises((BadConfig, BadData), match=reason) as raised:
        load(manifest)
    assert "\n" not in str(raised.value)


def test_a_model_or_a_correction_without_rules_is_refused(manifest: Path) -> None:
    manifest.write_text(MANIFEST.partition("    rules:")[0] + "    model: somewhere\n")
    with pytest.raises(BadConfig, match="model and corrected need rules"):
        load(manifest)


def test_there_is_nothing_to_write_without_rules_or_manifest(manifest: Path) -> None:
    manifest.write_text(MANIFEST.partition("    rules:")[0])
    for dataset, reason in ((str(manifest), "has no report with rules"), ("wdbc", "a YAML file")):
        with pytest.raises(BadRequest, match=reason):
            list(write_tables(Path(dataset), None, manifest.parent / "table.csv"))


# an instruction model

WORDS = [
    *("sharp", "blurred", "margin", "the", "of", "report", "is", "lesion", "not", "mentioned"),
    *("What", "does", "say", "Answer", "with", "one", "If", "it", "This", "was", "a", "medical"),
    *("answer", ":", ";", ".", "?", ",", "typical", "atypical", "pigment", "network"),
]


ANSWERS = {"the margin is sharp": "sharp", "the lesion is blurred": "blurred", "a lesion": None}
REPORTS = [*ANSWERS, "sharp sharp", "pigment network", "the report is blurred . the margin"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small causal language model with its tokenizer."""
    folder = tmp_path_factory.mktemp("instruction")
    vocabulary = {word: i for i, word in enumerate(["<end>", "<unknown>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unknown>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = Qwen2Config(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    logging.disable_progress_bar()
    Qwen2ForCausalLM(config).save_pretrained(folder)
    trained(folder).save_pretrained(folder)
    return folder


def trained(folder: Path) -> Any:
    """Teach the model the answers about three reports."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole = AutoModelForCausalLM.from_pretrained(folder)
    optimiser = torch.optim.Adam(whole.parameters(), lr=5e-3)
    for _ in range(150):
        loss = torch.zeros(())
        for report, answer in ANSWERS.items():
            start = tokenizer.encode(asked(folder, report)).ids
            ids = torch.tensor([start + tokenizer.encode(answer or UNMENTIONED).ids])
            log_p = whole(ids).logits[0, len(start) - 1 : -1].log_softmax(-1)
            loss = loss - log_p.gather(1, ids[0, len(start) :, None]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    return whole


def asked(folder: Path, report: str) -> str:
    """Return what the model is asked about the margin of a report."""
    selector = InstructionSelector(str(folder))
    rules = checked_rules({"margin": RULES_OF_MARGIN})
    return selector.as_turn(selector.prompt(report, "margin", rules["margin"]))


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))


def by_hand(folder: Path, prompt: str, answers: Sequence[str]) -> list[float]:
    """Return the mean log-probability of each answer's tokens, one answer and token at a time."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole = AutoModelForCausalLM.from_pretrained(folder).eval()
    scores = []
    for answer in answers:
        ids = tokenizer.encode(prompt).ids
        total, words = 0.0, tokenizer.encode(answer).ids
        for word in words:
            with torch.no_grad():
                total += float(whole(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[word])
            ids = [*ids, word]
        scores.append(total / len(words))
    return scores


def test_a_model_takes_the_likeliest_answer_of_the_vocabulary(model: Path) -> None:
    rules = {"margin": RULES_OF_MARGIN}
    found = attributes_of(REPORTS, rules, model=str(model)).margin.tolist()
    assert found[: len(ANSWERS)] == list(ANSWERS.values())
    answers = (UNMENTIONED, "sharp", "blurred")
    for report, value in zip(REPORTS, found, strict=True):
        scores = by_hand(model, asked(model, report), answers)
        assert value == (None, "sharp", "blurred")[scores.index(max(scores))]


def test_a_second_reading_asks_no_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = attributes_of(REPORTS, RULES, model=str(model))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", pytest.fail)
    assert attributes_of(REPORTS, RULES, model=str(model)).equals(first)
    assert attributes_of([None, REPORTS[3]], RULES, model=str(model)).iloc[1].equals(first.iloc[3])


def test_another_question_or_answer_is_asked_anew(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes_of(REPORTS[:1], {"margin": RULES_OF_MARGIN}, model=str(model))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", pytest.fail)
    for other in ({"question": "What is the margin ?"}, {"values": ["sharp", "typical"]}):
        with pytest.raises(BadConfig, match="cannot be loaded"):
            attributes_of(REPORTS[:1], {"margin": RULES_OF_MARGIN | other}, model=str(model))


def test_a_model_that_was_trained_on_turns_is_asked_in_turns(model: Path, tmp_path: Path) -> None:
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    template = "{% for turn in messages %}<user>{{ turn.content }}<answer>{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(template)
    assert InstructionSelector(str(tmp_path)).as_turn("What ?") == "<user>What ?<answer>"
    assert InstructionSelector(str(model)).as_turn("What ?") == "What ?\nAnswer:"


def test_a_report_that_the_model_cannot_hold_is_refused(model: Path) -> None:
    with pytest.raises(BadData, match=r"the report that begins 'sharp .* reads 64; shorten it"):
        attributes_of(["sharp " * 70], {"margin": RULES_OF_MARGIN}, model=str(model))


def test_a_folder_without_a_model_is_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(BadConfig, match="is no folder with a model"):
        attributes_of(["sharp"], RULES, model=str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadConfig, match=r"has no tokenizer that can be loaded|cannot be loaded"):
        attributes_of(["sharp"], RULES, model=str(tmp_path))
