"""Entries of `bench cite`: one per paper, escaped, with a key of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.cli import main
from bench.errors import UnknownName
from bench.plugins.citations import cite_lines
from bench.registry import Registry

PLUGIN = '''"""{doc}."""

from bench.method import Config, Method, Prediction, Reference


class Cited(Method):
    """Stands for a paper."""

    display_name = "Cited"
    config_class = Config
    reference = Reference(title={title!r}, authors={authors!r}, year=2024, venue="A & B")

    def forward(self, tokens, available):
        return Prediction(tokens[0].values.mean((1, 2))[:, None].repeat(1, self.task.n_classes))

    def losses(self, tokens, observed, label, progress):
        return {{"ce": progress.cross_entropy(self(tokens, observed).logits, label)}}


PLUGIN = Cited
'''


def write_plugin(folder: Path, name: str, title: str, authors: str) -> None:
    text = PLUGIN.format(doc=name, title=title, authors=authors)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")


def cite(*names: str, include: tuple[Path, ...] = ()) -> str:
    return "\n".join(cite_lines(names, include, override=False))


def test_entry_has_all_that_the_method_says_of_its_paper() -> None:
    assert cite("shaspec").strip().splitlines() == [
        "% shaspec",
        "@misc{wang2023multimodal,",
        "  author = {Wang and others},",
        "  title = {{Multi-modal Learning with Missing Modality via Shared-Specific Feature "
        "Modelling}},",
        "  year = {2023},",
        "  howpublished = {CVPR},",
        "  eprint = {2307.14126},",
        "  archiveprefix = {arXiv},",
        "  note = {Code: billhhh/ShaSpec},",
        "}",
    ]


def test_methods_of_one_paper_share_its_entry() -> None:
    text = cite("alignedfusion", "self-attention", "elementwise-sum")
    assert text.count("@misc") == 1
    assert "% alignedfusion, elementwise-sum, self-attention" in text


def test_unnamed_authors_are_others() -> None:
    assert "author = {Liu and others}," in cite("sfusion")


def test_methods_without_a_paper_are_named_in_a_comment() -> None:
    assert cite("concat").strip() == "% without a paper of their own: concat"


def test_a_dataset_gives_its_citation_as_a_note() -> None:
    text = cite("wdbc")
    assert "@misc{wdbc," in text
    assert "note = {W. N. Street" in text
    assert "Licence: CC BY 4.0" in text


def test_everything_has_braces_in_pairs_and_keys_of_its_own() -> None:
    text = cite()
    keys = re.findall(r"@misc\{(.*),", text)
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[a-z0-9-]+", key) for key in keys)
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    registry = Registry()
    assert set(registry.names("dataset")) <= set(keys)
    for name in registry.names("method"):
        assert re.search(rf"^%.*\b{name}\b", text, flags=re.MULTILINE), name


def test_special_characters_are_escaped_and_equal_keys_told_apart(tmp_path: Path) -> None:
    write_plugin(tmp_path, "one", "Learning 100% of_it", "Ann Müller")
    write_plugin(tmp_path, "two", "Learning & nothing", "Bob Muller")
    text = cite("one", "two", include=(tmp_path,))
    assert r"title = {{Learning 100\% of\_it}}," in text
    assert r"howpublished = {A \& B}," in text
    assert "author = {Ann Müller}," in text
    assert re.findall(r"@misc\{(.*),", text) == ["muller2024learning", "muller2024learningb"]


def test_a_broken_plugin_is_a_comment_when_all_are_cited(tmp_path: Path) -> None:
    write_plugin(tmp_path, "one", "Broken", "Nobody")
    source = (tmp_path / "one.py").read_text(encoding="utf-8")
    (tmp_path / "one.py").write_text("import nowhere_at_all\n" + source, encoding="utf-8")
    text = cite(include=(tmp_path,))
    assert "% one cannot be imported" in text
    assert "wang2023multimodal" in text


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean shaspec"):
        cite("shaspc")


def test_command_prints_entries(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["cite", "cmml"])
    assert ended.value.code == 0
    assert "eprint = {2605.25968}" in capsys.readouterr().out
