"""A study is asked for in layers: preset, configuration file or a paper's study, flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.commands.narrowing import narrowed
from bench.errors import BadConfig, BadRequest, UnknownName
from bench.registry import Registry
from bench.request import (
    PRESETS,
    Request,
    checked,
    encoder_of,
    layered,
    preset_path,
    read_config,
    recipe_of,
)

STUDIES = ("alignedfusion-derm7pt", "cmml-derm7pt", "cmml-men", "cmml-odir")


def request(file: dict[str, Any], *pairs: str, **flags: Any) -> Request:
    asked: Request = checked(Request, layered(file, flags, pairs), "run")
    return asked


def study(name: str, *pairs: str, **flags: Any) -> Request:
    return request(read_config(Path(name)), *pairs, **flags)


def test_flags_win_over_the_file_and_what_was_not_given_does_not() -> None:
    file = {"method": "cmml", "seeds": "0-2", "device": "cpu", "recipe": {"epochs": 3, "lr": 0.1}}
    asked = request(file, "recipe.epochs=4", methods=(), seeds=None, device="auto")
    assert (asked.methods, asked.seeds, asked.device) == (("cmml",), (0, 1, 2), "auto")
    assert asked.settings["recipe"] == {"epochs": 4, "lr": 0.1}


def test_gaps_are_laid_over_each_other_one_by_one() -> None:
    file = {"method": "cmml", "gaps": {"level": "attribute", "independent": True}}
    assert request(file).gaps == {"level": "attribute", "independent": True}
    asked = request(file, gaps={"level": "modality", "rates": [0.5]})
    assert asked.gaps == {"level": "modality", "independent": True, "rates": [0.5]}
    with pytest.raises(BadConfig, match=r"run.gaps: input should be a valid dictionary"):
        request({"method": "cmml", "gaps": "attribute"})


def test_settings_of_what_the_flags_replace_are_left_out() -> None:
    file = {
        "method": ["cmml", "concat:dropout"],
        "dataset": "derm7pt",
        "methods": {"cmml": {"tau": 1}, "concat": {"fill": "zero"}, "concta": {"fill": "zero"}},
        "datasets": {"derm7pt": {"size": 8}},
    }
    shared = {"recipe", "encoder"}
    assert set(request(file).settings) - shared == {"cmml", "concat", "concta", "derm7pt"}
    asked = request(file, methods=("concat",), datasets=("wdbc",))
    assert set(asked.settings) - shared == {"concat", "concta"}  # a wrong name is still refused


def test_a_file_of_that_name_goes_before_the_study_of_a_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("cmml-odir"))["dataset"] == "odir"
    (tmp_path / "cmml-odir").write_text("dataset: wdbc\n")
    assert read_config(Path("cmml-odir")) == {"dataset": "wdbc"}


def test_a_study_that_is_not_there_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no study or file is named 'cmml-dir'; did you mean"):
        read_config(Path("cmml-dir"))
    for path in (tmp_path / "cmml-odir", Path("cmml-odir.yml")):
        with pytest.raises(BadConfig, match="cannot be read"):
            read_config(path)


def test_a_whole_study_is_no_budget_of_another() -> None:
    with pytest.raises(BadRequest, match=r"is a whole study .*; say --config cmml-odir"):
        recipe_of(Request(methods=("cmml",), preset="cmml-odir"), {})
    with pytest.raises(UnknownName, match="no preset is named 'papre'; did you mean paper"):
        preset_path("papre")


def test_every_study_of_a_paper_is_tried_here() -> None:
    found = {path.stem for path in PRESETS.glob("*.yaml")}
    assert found == {*STUDIES, "paper", "quick"}


@pytest.mark.parametrize("name", STUDIES)
def test_every_setting_of_a_paper_is_known(name: str) -> None:
    asked, registry = study(name), Registry()
    assert asked.study == name
    datasets = [registry.load("dataset", each) for each in asked.datasets if each != "men"]
    defaults: dict[str, Any] = dict(datasets[0].encoder_defaults) if datasets else {}
    assert recipe_of(asked, {}).d_model == 256
    assert encoder_of(asked, defaults) == encoder_of(asked, {})  # the study says all that differs
    for plugin in [*datasets, *(registry.load("method", each) for each in asked.rows)]:
        assert checked(plugin.config_class, asked.settings.get(plugin.name, {}), plugin.name)
    known = {"recipe", "encoder", *asked.rows, *asked.datasets, *asked.protocols}
    assert set(asked.settings) <= known
    taken: set[str] = set()
    for each in asked.protocols:
        taken |= set(registry.load("protocol", each).config_class.model_fields)
    assert set(asked.gaps) <= taken


@pytest.mark.parametrize("name", STUDIES)
def test_every_value_of_a_paper_says_where_it_comes_from(name: str) -> None:
    marks = ("the paper's", "derived", "CFCML", "our choice")
    lines = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    plain = {"study", "preset", "w_scl", "w_pcl"}  # names, and what the line above speaks for
    bare = [
        line.strip()
        for line in lines
        if not line.startswith("#")
        and line.split("#")[0].partition(":")[2].strip()
        and line.partition(":")[0].strip() not in plain
        and not any(mark in line for mark in marks)
    ]
    assert bare == []


def test_studies_have_the_sizes_of_the_papers() -> None:
    derm7pt, odir, men = (study(f"cmml-{name}") for name in ("derm7pt", "odir", "men"))
    assert derm7pt.settings["derm7pt"]["classes"] == 2
    assert (derm7pt.n_folds, derm7pt.seeds) == (1, (0, 1, 2))
    assert (odir.n_folds, men.n_folds) == (3, 3)
    assert odir.settings["odir"]["size"] == 512
    assert odir.settings["encoder"]["frozen"]
    aligned = study("alignedfusion-derm7pt")
    assert aligned.protocols == ("m-tr+c-te", "c-tr+m-te", "m-tr+m-te")
    assert aligned.gaps["rates"] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert aligned.settings["derm7pt"]["classes"] == 5


@pytest.mark.parametrize("protocol", Registry().names("protocol"))
@pytest.mark.parametrize("name", STUDIES)
def test_a_papers_study_may_be_narrowed_to_any_protocol(name: str, protocol: str) -> None:
    fields = set(Registry().load("protocol", protocol).config_class.model_fields)
    asked, said = narrowed(study(name, protocols=(protocol,)), ())
    assert set(asked.gaps) <= fields
    assert set(asked.settings) <= {"recipe", "encoder", *asked.rows, *asked.datasets, protocol}
    left_out = set(study(name).gaps) - fields
    assert said == "" if not left_out else all(key in said for key in left_out)


def test_a_gap_of_the_flags_that_means_nothing_is_not_left_out_in_silence() -> None:
    asked, _ = narrowed(study("alignedfusion-derm7pt", protocols=("natural",)), ["rates"])
    assert set(asked.gaps) == {"rates"}


def test_settings_of_a_protocol_are_its_own_and_a_flag_wins_over_them() -> None:
    file = {"method": "cmml", "protocols": {"m-tr+m-te": {"train_rate": 0.4, "grid": False}}}
    file |= {"protocol": ["m-tr+m-te", "all-subsets"]}
    assert request(file).settings["m-tr+m-te"] == {"train_rate": 0.4, "grid": False}
    assert "m-tr+m-te" not in request(file, protocols=("all-subsets",)).settings
    asked = request(file, gaps={"train_rate": 0.2})
    assert asked.settings["m-tr+m-te"] == {"grid": False}
    assert asked.gaps == {"train_rate": 0.2}
    assert request({"method": "cmml", "protocols": ["natural"]}).protocols == ("natural",)
