"""The report of a study: words, tables as HTML, and a page that opens without a network."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from bench.availability import subset_name, subsets
from bench.layout import Layout, LayoutColumn
from bench.pages.facts import cost_table
from bench.pages.page import write_report
from bench.registry import Registry
from bench.report import ReportOptions
from bench.reporting.contents import Contents
from bench.reporting.differences import Rows
from bench.reporting.summary import finding
from bench.scores.results import load_results
from bench.store import StudyFolder
from bench.tables import Cell, Column, Row, RowGroup, Table, to_html
from tests.command_line import call
from tests.synthetic_runs import (
    ACC_0_AUC_0,
    ACC_50_AUC_50,
    ACC_50_AUC_75,
    ACC_100_AUC_100,
    binary,
    failed,
    finished,
)

EVIL = '<script>alert("x")</script>&'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
VOID = {"meta", "link", "img", "br", "input"}
SUBSETS = {"0": (0,), "1": (1,), "01": (0, 1)}


class WellFormed(HTMLParser):
    """Follows tags; what is not closed in order is a fault."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.addresses += [values[key] or "" for key in ("src", "href", "action") if key in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def layout() -> Layout:
    names = {"0": "mean", "1": "se", "01": "mean+se"}
    columns = tuple(
        LayoutColumn("complete", "all-subsets", key, key, names[key], subset=subset)
        for key, subset in SUBSETS.items()
    )
    return Layout("toy", "all-subsets", "All subsets", "subsets", columns)


def noted(study: StudyFolder) -> None:
    """Note the runs of a study as one request."""
    entry = {"asked": {"methods": ["concat"]}, "layouts": [layout().to_json()]}
    cells = [[path.name, []] for path in sorted(study.runs_path.iterdir())]
    study.write_json("study.json", {"requests": {"k": {**entry, "cells": cells, "files": []}}})


def two_methods(study: StudyFolder, n_seeds: int = 3) -> None:
    """Store a perfect row, one that loses with modality 1 alone, and one that failed."""
    facts = {"n_parameters": 100, "predict_seconds": 0.1, "fit_seconds": 1.0}
    perfect = binary(dict.fromkeys(SUBSETS, ACC_100_AUC_100))
    for seed in range(n_seeds):
        finished(study, perfect, method="a", seed=seed, facts=facts)
        weak = (ACC_50_AUC_75, ACC_0_AUC_0, ACC_50_AUC_50)[seed % 3]
        worse = {"0": ACC_100_AUC_100, "1": weak, "01": ACC_100_AUC_100}
        finished(study, binary(worse), method="b", seed=seed, facts=facts)
    failed(study, f"out of memory {EVIL}", method="broken")
    noted(study)


def contents(study: StudyFolder, *metrics: str) -> Contents:
    return Contents.of(load_results(study), layout(), ReportOptions(metrics or ("AUC",)))


# --- tables as HTML ---------------------------------------------------------------------------


def small_table() -> Table:
    columns = (Column("0", EVIL, "ACC", n=4), Column("1", "loss", "ACC", better="lower"))
    best = Cell(90.126, 1.0, best=True, marks=("a", "*"))
    rows = (Row("x", (best, Cell(text="failed"))), Row(EVIL, (Cell(80.0, second=True), Cell(0.5))))
    return Table(EVIL, columns, (RowGroup("", rows),), (EVIL,), {"a": EVIL})


def wide_table(n: int, spread: float | None) -> Table:
    columns = tuple(Column(str(i), f"column {i}", "ACC") for i in range(n))
    cells = tuple(Cell(100.0 + i, spread) for i in range(n))
    return Table("t", columns, (RowGroup("", (Row("x", cells),)),))


@pytest.mark.parametrize(("spread", "n_beside"), [(1.0, 8), (None, 13)])
def test_paper_shows_every_column_of_a_wide_table_once(spread: float | None, n_beside: int) -> None:
    box, *printed = to_html(wide_table(20, spread)).split('<div class="printed">')
    assert 'class="scroll wide"' in box
    found = [re.findall(r'data-value="([\d.]+)"', piece) for piece in printed]
    assert [value for piece in found for value in piece] == [str(100.0 + i) for i in range(20)]
    assert max(map(len, found)) == n_beside


def test_a_table_that_fits_paper_stands_on_the_page_once() -> None:
    text = to_html(wide_table(8, 1.0))
    assert text.count("<table>") == 1
    assert "scroll wide" not in text


def test_strings_of_a_table_are_escaped() -> None:
    text = to_html(small_table())
    assert "<script" not in text
    WellFormed(text)


def test_best_is_bold_second_underlined_and_marks_lead_to_footnotes() -> None:
    text = to_html(small_table(), identity="t")
    assert '<td data-value="90.126"><strong>90.13</strong>' in text
    assert "<u>80.00</u>" in text
    assert '<span class="sign">*</span><sup><a href="#t-a">a</a></sup>' in text
    assert '<li id="t-a">' in text


def test_heads_are_buttons_that_say_how_they_sort_first() -> None:
    pattern = r'<th scope="col" aria-sort="none" data-first="(\w+)"><button type="button">(\w+)'
    heads = re.findall(pattern, to_html(small_table()))
    assert heads == [("ascending", "ACC"), ("ascending", "loss")]


# --- differences and words --------------------------------------------------------------------


def test_a_difference_is_paired_over_repeats(study: StudyFolder) -> None:
    two_methods(study)
    rows = Rows.of(contents(study))
    columns = rows.columns("AUC", "")
    assert rows.design == "seeds"
    found = rows.difference("a", "b", "AUC", columns)
    # AUC of modality 1 alone: 0.75, 0 and 0.5, so that the means over three columns differ by
    # 1/12, 1/3 and 1/6; t(0.975, 2) = 4.30265
    assert found.mean == pytest.approx(7 / 36)
    half = 4.30265 * 0.1272938 / 3**0.5
    assert found.interval == pytest.approx((7 / 36 - half, 7 / 36 + half), abs=1e-5)
    assert not found.is_clear
    assert found.n_repeats == 3


def in_folds(study: StudyFolder, method: str, folds: Sequence[Sequence[float]]) -> None:
    """Store a run per fold, trained on 4 cases, 8 cases, and so on."""
    for fold, p in enumerate(folds):
        scores = binary(dict.fromkeys(SUBSETS, p), first_case=4 * fold)
        folder = finished(study, scores, method=method, fold=fold, n_folds=len(folds))
        n_train = 4 * (fold + 1)
        parts = pd.DataFrame({"part": ["train"] * n_train + ["test"] * 4, "condition": ""})
        parts.to_parquet(folder.path / "availability.parquet")


def test_folds_of_several_sizes_are_corrected_by_all_of_them(study: StudyFolder) -> None:
    in_folds(study, "a", [ACC_100_AUC_100] * 3)
    in_folds(study, "b", [ACC_50_AUC_75, ACC_0_AUC_0, ACC_50_AUC_50])
    rows = Rows.of(contents(study))
    found = rows.difference("a", "b", "AUC", rows.columns("AUC", ""))
    # differences 0.25, 1 and 0.5 with SD 0.3818813; 12 test cases in all, 24 of training
    half = 4.302653 * 0.3818813 * (1 / 3 + 12 / 24) ** 0.5
    assert found.interval == pytest.approx((7 / 12 - half, 7 / 12 + half), abs=1e-5)


def test_folds_of_other_cases_have_no_difference(study: StudyFolder) -> None:
    in_folds(study, "a", [ACC_100_AUC_100] * 3)
    in_folds(study, "b", [ACC_50_AUC_75] * 2)
    other = binary(dict.fromkeys(SUBSETS, ACC_50_AUC_75), first_case=1)
    finished(study, other, method="c", fold=0)
    rows = Rows.of(contents(study))
    columns = rows.columns("AUC", "")
    assert rows.difference("a", "c", "AUC", columns).n_repeats == 0
    assert rows.difference("a", "b", "AUC", columns).n_repeats == 2


def test_equal_differences_have_no_interval(study: StudyFolder) -> None:
    rows = Rows.of(contents(study))
    assert rows.design == "single"
    two_methods(study)
    rows = Rows.of(contents(study))
    assert rows.estimate({(0, 0): 0.1, (0, 1): 0.1}).interval is None
    assert rows.estimate({(0, 0): 0.0, (0, 1): 0.0}).interval == (0.0, 0.0)


def test_the_summary_says_who_wins_where_and_how_sure(study: StudyFolder) -> None:
    two_methods(study)
    lead, places, sure, rest = finding(contents(study)).sentences
    assert lead.startswith("AUC, mean of 3 columns: a leads with 100.00, before b with 80.56.")
    assert "The lead is 19.44 (95 % interval -12.18 to 51.07), which may be chance." in lead
    assert places.startswith("a is best in 3 of 3 columns: most in 1 (58.33 ahead of")
    assert sure.startswith("Clearly behind a: none; not told apart from it: b")
    assert rest == "Without a finished run: broken."


def test_a_loss_is_led_by_the_lowest(study: StudyFolder) -> None:
    two_methods(study)
    assert "NLL, mean of 3 columns: a leads with" in finding(contents(study, "NLL")).sentences[0]


def test_one_repeat_is_never_sure(study: StudyFolder) -> None:
    two_methods(study, n_seeds=1)
    text = " ".join(finding(contents(study)).sentences)
    assert "one repeat cannot tell whether that is chance" in text
    assert "no difference is sure" in text


def test_a_lead_is_that_on_the_repeats_of_both(study: StudyFolder) -> None:
    for seed, good in enumerate([ACC_0_AUC_0, ACC_50_AUC_50, ACC_100_AUC_100]):
        finished(study, binary(dict.fromkeys(SUBSETS, good)), method="a", seed=seed)
    for seed in range(2):
        finished(study, binary(dict.fromkeys(SUBSETS, ACC_50_AUC_50)), method="b", seed=seed)
    finished(study, binary(dict.fromkeys(SUBSETS, ACC_0_AUC_0)), method="b", seed=2)
    noted(study)
    lead = finding(contents(study)).sentences[0]
    assert "a leads with 50.00, before b with 33.33. The lead is 16.67 (95 %" in lead
    failed(study, "out of memory", method="b", seed=3)
    finished(study, binary(dict.fromkeys(SUBSETS, ACC_100_AUC_100)), method="a", seed=3)
    lead = finding(contents(study)).sentences[0]
    assert "a leads with 62.50, before b with 33.33. The lead is 16.67 on the 3 repeats" in lead


def test_a_row_that_leads_by_other_repeats_is_not_said_to_lead_on_those_of_both(
    study: StudyFolder,
) -> None:
    for seed in range(5):
        good = ACC_100_AUC_100 if seed > 1 else ACC_0_AUC_0
        finished(study, binary(dict.fromkeys(SUBSETS, good)), method="a", seed=seed)
    for seed, middling in enumerate([ACC_50_AUC_50, ACC_50_AUC_75]):
        finished(
            study,
            binary({"0": middling, "1": (0.4,) * 4, "01": (0.1, 0.9) * 2}),
            method="b",
            seed=seed,
        )
    noted(study)
    lead, _, sure, *_ = finding(contents(study)).sentences
    assert "The lead is -" in lead
    assert sure.startswith("Clearly behind a: none")


def test_a_difference_without_spread_is_not_taken_for_one_repeat(study: StudyFolder) -> None:
    for seed in range(3):
        finished(study, binary(dict.fromkeys(SUBSETS, ACC_100_AUC_100)), method="a", seed=seed)
        finished(study, binary(dict.fromkeys(SUBSETS, ACC_50_AUC_75)), method="b", seed=seed)
    noted(study)
    lead = finding(contents(study)).sentences[0]
    assert "The lead is 25.00; it is the same every time, which does not tell whether" in lead


# --- the page ---------------------------------------------------------------------------------


def page_of(study: StudyFolder) -> str:
    return write_report(study)[0].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of two methods, written once: its figures take their time."""
    study = StudyFolder(tmp_path_factory.mktemp("report"), "main").create()
    two_methods(study)
    return page_of(study)


def test_the_page_needs_nothing_outside_itself(page: str) -> None:
    text = page
    parsed = WellFormed(text)
    assert all(each.startswith(("#", "data:")) for each in parsed.addresses)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|<iframe", text)
    linked = {each[1:] for each in parsed.addresses if each.startswith("#")}
    assert linked <= set(parsed.ids)


def test_the_page_has_every_section_and_says_what_failed(page: str) -> None:
    text = page
    sections = ["summary", "tables", "figures", "runs", "failures", "leaks", "citations"]
    assert re.findall(r'<h2 id="(\w+)"', text) == sections
    assert EVIL not in text
    failures = text.partition('<h2 id="failures"')[2].partition("</section>")[0]
    assert "broken on toy, training complete, fold 0, seed 0" in failures
    assert "failed: out of memory &lt;script&gt;" in failures
    assert "toy" in text.partition('<h2 id="leaks"')[2]


def test_a_picture_says_what_it_shows_to_those_who_cannot_see_it(page: str) -> None:
    alts = [html.unescape(each) for each in re.findall(r'<img [^>]*alt="([^"]*)"', page)]
    heat = next(each for each in alts if each.startswith("toy, All subsets: AUC (%)."))
    assert "Means over 3 repeats. AVG: mean of all columns." in heat
    assert "Without a finished run: broken." in heat
    assert heat.endswith("lines of numbers are in the CSV beside it.")


def test_a_heat_map_too_wide_for_a_page_goes_on_in_another(study: StudyFolder) -> None:
    chosen = subsets(5)[:25]  # all of one to three modalities
    names = [subset_name(each) for each in chosen]
    scores = [ACC_0_AUC_0, *[ACC_100_AUC_100] * 24]
    finished(study, binary(dict(zip(names, scores, strict=True))))
    columns = tuple(
        LayoutColumn("complete", "all-subsets", name, name, name, subset=subset)
        for name, subset in zip(names, chosen, strict=True)
    )
    wide = replace(layout(), columns=columns)
    drawings = Registry().load("report", "heatmap")().draw(load_results(study), [wide])
    drawn = [each for each in drawings if "AUC" in each.name]
    assert [each.name for each in drawn] == [f"heatmap-toy-All-subsets-AUC-{i}" for i in (1, 2)]
    shown = [each.data["condition"].tolist() for each in drawn]
    assert [len(each) for each in shown] == [13, 14]
    assert [each[-1] for each in shown] == ["AVG", "AVG"]
    assert shown[0][:-1] + shown[1][:-1] == names
    means = {each.data["mean"].iloc[-1] for each in drawn}
    assert means == {96.0}


@pytest.mark.slow
def test_files_of_a_report_are_the_same_each_time(study: StudyFolder) -> None:
    two_methods(study)
    first = {path.name: path.read_bytes() for path in write_report(study)}
    assert {path.name: path.read_bytes() for path in write_report(study)} == first
    assert {"report.html", "tables.md", "tables.tex", "tables.csv"} <= set(first)
    figures = {name.partition("-")[0] for name in first if name.endswith(".pdf")}
    assert figures == {"forest", "heatmap", "monotonicity", "pareto", "reliability", "slopes"}


def test_what_other_commands_drew_is_taken_in_and_what_is_stale_is_not(study: StudyFolder) -> None:
    failed(study, "out of memory")
    noted(study)
    for name in ("ablation-a", "forest-old"):
        Image.new("RGB", (2, 1)).save(study.reports_path / f"{name}.png")
        (study.reports_path / f"{name}.csv").write_text("row,mean\nfull,1\n")
    assert re.findall(r"<figcaption>(\S+)", page_of(study)) == ["ablation-a"]


def test_repeats_that_failed_alike_are_told_once(study: StudyFolder) -> None:
    for seed, why in enumerate(("out of memory", "out of memory", "out of time")):
        failed(study, why, seed=seed)
    noted(study)
    failures = page_of(study).partition('<h2 id="failures"')[2].partition("</section>")[0]
    found = re.findall(r"<dt>(.*?)</dt>\n<dd>(.*?)</dd>", failures)
    assert [name.partition("complete, ")[2] for name, _ in found] == [
        "fold 0, seed 0; fold 0, seed 1",
        "fold 0, seed 2",
    ]
    assert [why for _, why in found] == ["failed: out of memory", "failed: out of time"]


def test_a_study_without_a_finished_run_has_a_page(study: StudyFolder) -> None:
    failed(study, "out of memory")
    noted(study)
    text = page_of(study)
    assert "No run has finished." in text
    assert "Nothing in this study can be drawn." in text


def test_the_command_prints_the_path_of_the_page(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study, n_seeds=1)
    assert call("report", "--out", str(study.root), "--metric", "acc") == 0
    printed = capsys.readouterr().out.strip()
    assert Path(printed) == study.reports_path / "report.html"


@pytest.mark.slow
def test_a_report_imports_no_torch(study: StudyFolder) -> None:
    two_methods(study)
    code = (
        "import sys\nfrom pathlib import Path\nfrom bench.pages.page import write_report\n"
        "from bench.store import StudyFolder\n"
        f"write_report(StudyFolder(Path({str(study.root)!r}), 'main'))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- in a browser -----------------------------------------------------------------------------

SORT = """<script>
var table = document.querySelector("table");
var button = table.tHead.rows[0].cells[2].querySelector("button");
function order() {
  var rows = Array.from(table.tBodies[0].rows);
  return rows.map(function (row) { return row.cells[0].textContent[0]; }).join("");
}
var seen = [order()];
for (var i = 0; i < 3; i++) {
  button.click();
  seen.push(order() + "/" + button.parentElement.getAttribute("aria-sort"));
}
var others = Array.from(document.querySelectorAll("table th button")).filter(function (each) {
  each.click();
  return each.parentElement.getAttribute("aria-sort") === "none";
});
document.title = "ORDER " + seen.join(" ") + " deaf " + others.length;
</script></body>"""
WRAPPER = """<!DOCTYPE html><title></title><iframe style="border:0;width:{width}px;height:900px"
srcdoc="{page}" onload="var root = this.contentDocument.documentElement;
var images = Array.from(this.contentDocument.images);
var loaded = images.filter(function (each) {{ return each.complete && each.naturalWidth; }});
var asked = this.contentWindow.performance.getEntriesByType('resource').filter(
  function (each) {{ return each.name.indexOf('data:') !== 0; }});
document.title = ['WIDTH', root.scrollWidth, images.length, loaded.length, asked.length].join(' ')">
</iframe>"""


def title_in_chromium(page: str, folder: Path, width: int) -> str:
    """Open a page, fail at any line of the console, and return its title."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    path = folder / "opened.html"
    path.write_text(page, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    flags += " --disable-background-networking --disable-component-update --dump-dom"
    flags += f" --hide-scrollbars --enable-logging=stderr --window-size={width},900"
    flags += " --proxy-server=127.0.0.1:9"  # a request finds nobody and is an error
    done = subprocess.run(
        [CHROMIUM, *flags.split(), f"--user-data-dir={folder / 'profile'}", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    return re.findall(r"<title>(.*?)</title>", done.stdout)[0]


@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1440])
def test_tables_sort_at_a_press_and_go_back(page: str, tmp_path: Path, width: int) -> None:
    sorting = page.replace("</body>", SORT)
    # a: 100, b: 50 of condition 1, broken: no number, which stays last
    wanted = "ORDER abb abb/descending bab/ascending abb/none deaf 0"
    assert title_in_chromium(sorting, tmp_path, width) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1440])
def test_the_page_fits_phone_and_desk_and_asks_no_network(
    page: str, tmp_path: Path, width: int
) -> None:
    wrapped = WRAPPER.format(page=html.escape(page), width=width)
    title = title_in_chromium(wrapped, tmp_path, width + 60)
    shown, n_images, n_loaded, n_requests = map(int, title.split()[1:])
    assert shown == width
    assert n_images > 5
    assert (n_loaded, n_requests) == (n_images, 0)


def test_the_floor_has_a_dash_where_no_parameter_is_counted(study: StudyFolder) -> None:
    facts = {"n_parameters": 0, "n_models": 1, "fit_seconds": 2.0}
    finished(study, binary({"0": ACC_50_AUC_75}), method="floor", facts=facts)
    (row,) = cost_table(contents(study)).rows
    assert [each.number for each in row.cells] == ["-", "1", "2.00", "-"]
