"""Figures of representations: t-SNE with numbers that do not depend on the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

from bench.planes import MAX_CASES, chosen_cases, in_words, legend_of
from bench.registry import Registry
from bench.report import Drawing
from bench.runner.representations import Represented, separation
from bench.scores.results import load_results
from bench.scores.rows import layouts_of
from bench.store import StudyFolder
from tests.command_line import call
from tests.synthetic_runs import binary, finished

N = 40
LABEL = np.arange(N) % 2
AVAILABLE = {"0": (True, False), "1": (False, True), "01": (True, True)}


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def vectors(gap: float, *keys: int) -> np.ndarray:
    """Draw (N, 5) vectors of two classes that lie `gap` apart."""
    noise = np.random.default_rng(keys).normal(size=(N, 5))
    return (noise + gap * LABEL[:, None]).astype(np.float32)


def kept(study: StudyFolder, method: str, *, guess: float | None, **changes: Any) -> None:
    """Store a run whose guesses of modality 0 lie `guess` apart by class; None: all the same."""
    predictions = binary(dict.fromkeys(AVAILABLE, [0.5] * N), LABEL.tolist())
    facts = {"classes": ["benign", "malignant"]}
    folder = finished(study, predictions, method=method, facts=facts, **changes)
    cases = np.array([f"case{i}" for i in range(N)])
    arrays: dict[str, np.ndarray] = {}
    for c, (name, has) in enumerate(AVAILABLE.items()):
        made = np.zeros((N, 5), np.float32) if guess is None else vectors(guess, 7)
        completed = {0: vectors(4.0, 0) if has[0] else made}
        available = np.tile(has, (N, 1))
        each = Represented(cases, LABEL, available, vectors(float(c), c), completed)
        arrays |= each.arrays(name)
    folder.add_representations(arrays, list(AVAILABLE))


def drawn(study: StudyFolder, name: str) -> list[Drawing]:
    results = load_results(study)
    return Registry().load("report", name)().draw(results, layouts_of(results))


def text_of(drawing: Drawing) -> str:
    """Return all that is written in a figure."""
    from matplotlib.text import Text

    return " ".join(
        each.get_text() for each in drawing.figure.findobj(Text) if isinstance(each, Text)
    )


def test_fused_features_have_a_panel_per_method_and_subset_with_numbers(study: StudyFolder) -> None:
    kept(study, "a", guess=4.0)
    kept(study, "b", guess=4.0)
    (drawing,) = drawn(study, "tsne-fused")
    data = drawing.data
    assert data.groupby(["method", "column"]).size().to_dict() == {
        (method, column): N for method in "ab" for column in AVAILABLE
    }
    part = data[(data["method"] == "a") & (data["column"] == "01")]
    own = separation(vectors(2.0, 2), LABEL)
    assert part["silhouette"].iloc[0] == pytest.approx(own.silhouette)
    assert part["knn_accuracy"].iloc[0] == own.knn_accuracy
    flat = separation(part[["x", "y"]].to_numpy(), LABEL)
    assert part["plane_silhouette"].iloc[0] == pytest.approx(flat.silhouette)
    assert in_words(part.iloc[0].to_dict()) in text_of(drawing)
    assert "MDA" in text_of(drawing)
    assert "malignant" in text_of(drawing)


def test_what_is_made_is_laid_out_jointly_with_what_is_there(study: StudyFolder) -> None:
    kept(study, "a", guess=4.0)
    (drawing,) = drawn(study, "tsne-completed")
    kinds = drawing.data.groupby("kind")
    assert {kind: set(part["column"]) for kind, part in kinds} == {
        "available": {"01"},  # where cases have the most besides
        "completed": {"1"},
    }
    assert kinds.size().to_dict() == {"available": N, "completed": N}
    part = drawing.data[drawing.data["kind"] == "completed"]
    own = separation(vectors(4.0, 7), LABEL)
    assert part["silhouette"].iloc[0] == pytest.approx(own.silhouette)


def test_a_guess_that_is_the_same_for_all_is_left_out_and_said(study: StudyFolder) -> None:
    kept(study, "a", guess=4.0)
    kept(study, "constant", guess=None)
    (drawing,) = drawn(study, "tsne-completed")
    assert set(drawing.data["method"]) == {"a"}
    assert "constant" in text_of(drawing)


def test_variants_of_one_method_are_named_by_their_own_setting(study: StudyFolder) -> None:
    for switch in ("", "no_memory", "no_context"):
        config = {name: name == switch for name in ("no_memory", "no_context")}
        kept(study, "a", guess=4.0, method_config=config)
    kept(study, "b", guess=4.0)
    for name in ("tsne-fused", "tsne-completed"):
        (drawing,) = drawn(study, name)
        methods = set(drawing.data["method"])
        assert {"a: no_memory = True", "a: no_context = True", "b"} < methods
        assert len(methods) == 4


def test_the_same_study_is_drawn_alike(study: StudyFolder) -> None:
    kept(study, "a", guess=4.0)
    for name in ("tsne-fused", "tsne-completed"):
        (first,), (second,) = drawn(study, name), drawn(study, name)
        pd.testing.assert_frame_equal(first.data, second.data)


def test_only_one_training_is_shown_and_named(study: StudyFolder) -> None:
    kept(study, "a", guess=4.0, seed=1)
    kept(study, "a", guess=4.0, seed=2)
    (drawing,) = drawn(study, "tsne-fused")
    assert set(drawing.data["seed"]) == {1}
    assert "fold 0, seed 1" in text_of(drawing)


@pytest.mark.parametrize("name", ["tsne-fused", "tsne-completed"])
def test_without_representations_there_is_nothing_to_draw(
    study: StudyFolder, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(study, binary({"0": [0.5] * N}, LABEL.tolist()))
    assert drawn(study, name) == []
    assert call("figure", name, "--out", str(study.root)) == 2
    assert "--keep-representations" in capsys.readouterr().err


def test_ten_classes_have_ten_colours_and_ten_markers_of_their_own() -> None:
    handles = legend_of([f"digit {k}" for k in range(10)], Line2D)
    assert len({str(each.get_color()) for each in handles}) == 10
    assert len({str(each.get_marker()) for each in handles}) == 10


def test_of_many_cases_some_are_drawn_the_same_each_time() -> None:
    assert chosen_cases(5).tolist() == [0, 1, 2, 3, 4]
    many = chosen_cases(10 * MAX_CASES)
    assert len(set(many.tolist())) == MAX_CASES
    assert many.tolist() == chosen_cases(10 * MAX_CASES).tolist()
