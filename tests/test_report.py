"""Reports of runs: their text, files and plots."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from command import need_pillow, windrow_here
from windrow.report.files import find_reports, read_report, results_in, write_report
from windrow.report.pictures import rasterized, require_format
from windrow.report.run import PHASES, make_report, summary
from windrow.report.run_picture import draw_run
from windrow.report.svg import DARK, FILLS, LIGHT, STROKES, Picture, ticks

RUN = {
    "requests": 30, "segments": 20, "rows": 16, "batches": 3, "real_tokens": 1000, "row_tokens": 800,
    "padding_tokens": 200, "device_tokens": 1000, "shapes": [[8, 64], [8, 32]],
    "truncated": 1, "shared": 4, "skipped": 2,
    "devices": {"count": 8, "kind": "cpu", "hosts": 2},
    "seconds": {"tokenize": 0.5, "plan": 0.25, "compile": 3.0, "host": 0.1, "device": 2.0},
    "device_seconds": {
        "scoring": {"running": 2.0, "waiting_for_host": 0.5, "waiting_for_compiler": 1.5},
        "generation": {"running": 1.0, "waiting_for_host": 0.25, "waiting_for_compiler": 0.75},
    },
    "generation": {
        "requests": 10, "prompt_tokens": 300, "generated_tokens": 400, "stop": 4, "end": 0, "length": 6,
        "programs": 5, "slots": 8, "slot_use": 0.5,
    },
}  # fmt: skip


@pytest.fixture
def report():
    return make_report(RUN, "my_model", 10.0, ["--tasks", "x"])


def test_phases_add_up_to_the_total_time(report):
    seconds = report["seconds"]
    expected = {
        "tokenize": 0.5,
        "plan": 0.25,
        "compile": 2.25,
        "host": 0.75,
        "device": 3.0,
    }
    assert {name: seconds[name] for name in expected} == expected
    assert seconds["other"] == 10.0 - sum(expected.values())
    assert set(seconds) == {"total", *PHASES}


def test_speeds(report):
    assert report["tokens_per_second"] == {"scored": 1000 / 4.0, "device": 1000 / 2.0, "generated": 400 / 2.0}


def test_summary_fits_on_a_screen(report):
    lines = summary(report).splitlines()
    assert len(lines) < 20
    assert max(map(len, lines)) <= 120
    for words in (
        "8 × cpu on 2 hosts",
        "4 deduplicated",
        "1 truncated",
        "2 skipped",
        "20.0% of them padding",
    ):
        assert words in summary(report)
    assert "8×64, 8×32" in summary(report)
    assert "host 0.75" in summary(report)


def test_report_of_an_empty_run():
    nothing = {
        **RUN,
        "device_seconds": {name: dict.fromkeys(part, 0.0) for name, part in RUN["device_seconds"].items()},
    }
    for name in (
        "requests",
        "segments",
        "rows",
        "batches",
        "real_tokens",
        "row_tokens",
        "padding_tokens",
        "device_tokens",
    ):
        nothing[name] = 0
    nothing |= {"shapes": [], "seconds": {}}
    del nothing["generation"]
    empty = make_report(nothing, "my_model", 1.0, [])
    assert "0: " in summary(empty)
    ElementTree.fromstring(str(draw_run(empty)))


def test_report_is_written_next_to_the_new_results(tmp_path, report):
    old = tmp_path / "model" / "results_2026-01-01T00-00-00.000001.json"
    old.parent.mkdir()
    old.write_text("{}")
    known = results_in(tmp_path)
    assert known == {old}
    new = tmp_path / "other" / "results_2026-01-02T00-00-00.000001.json"
    new.parent.mkdir()
    new.write_text("{}")
    path = write_report(report, tmp_path, known)
    assert path == new.parent / "windrow_report_2026-01-02T00-00-00.000001.json"
    assert read_report(path) == json.loads(json.dumps(report))
    without = write_report(report, tmp_path, results_in(tmp_path))
    assert without.parent == tmp_path
    assert set(find_reports(tmp_path)) == {path, without}


def test_files_that_are_not_reports_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no windrow_report_\*.json found in"):
        find_reports(tmp_path)
    part = '{"windrow": "1", "seconds": {}, "devices": {}, "model": "m"}'
    cases = (
        ("[1]", "is not a report from windrow run"),
        ("{", "is not JSON"),
        (part, "it lacks requests, rows"),
    )
    for text, message in cases:
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_report(find_reports(tmp_path / "other.json")[0])


def test_command_prints_and_plots_the_newest_report(tmp_path, report):
    for day in (1, 3, 2):
        (tmp_path / f"windrow_report_2026-01-0{day}T00-00-00.json").write_text(
            json.dumps({**report, "model": f"model {day}"})
        )
    result = windrow_here("report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("windrow     model 3")
    assert "the newest of 3" in result.stdout
    assert "A run of model 3" in (tmp_path / "windrow_report_2026-01-03T00-00-00.svg").read_text()
    elsewhere = windrow_here("report", tmp_path, "--plot", tmp_path / "other.svg")
    assert str(tmp_path / "other.svg") in elsewhere.stdout
    assert windrow_here("report", tmp_path, "--plot", tmp_path / "other.pdf").returncode == 2
    need_pillow()
    assert windrow_here("report", tmp_path, "--plot", tmp_path / "other.png").returncode == 0
    assert (tmp_path / "other.png").read_bytes().startswith(b"\x89PNG")


def test_bar_widths_match_the_seconds(report):
    root = ElementTree.fromstring(str(draw_run(report)))
    rects = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("height") == "24.0"]
    widths = [float(rect.get("width")) for rect in rects]
    assert sum(widths[:6]) == pytest.approx(912, abs=0.5)
    assert widths[:6] == pytest.approx([912 * report["seconds"][name] / 10 for name in PHASES], abs=0.1)


def test_text_is_escaped():
    picture = Picture(10, 10, "a < b & c")
    picture.text(0, 0, '<script>"')
    root = ElementTree.fromstring(str(picture))
    assert [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")] == ['<script>"']


@pytest.mark.parametrize("most", [0, 0.3, 1, 7, 99, 100, 512, 38_003, 10**9])
def test_ticks_are_few_and_in_range(most):
    values = ticks(most)
    assert values[0] == 0
    assert 1 <= len(values) <= 7
    assert values[-1] <= max(most, 0)
    assert most == 0 or len(values) >= 2


def test_colors_use_plain_css(report):
    """Some viewers support neither CSS variables nor media queries, so plain light colors come first."""
    picture = str(draw_run(report))
    assert "var(" not in picture
    light, _, dark = picture.partition("@media (prefers-color-scheme: dark)")
    for kind, name in FILLS.items():
        assert f".{kind} {{ fill: {LIGHT[name]} }}" in light
        assert f".{kind} {{ fill: {DARK[name]} }}" in dark
    for kind, name in STROKES.items():
        assert f".{kind} {{ stroke: {LIGHT[name]} }}" in light


def test_raster_has_the_colors_of_the_shapes():
    need_pillow()
    picture = Picture(40, 40, "Shapes")
    picture.rect(0, 0, 10, 10, "real")
    picture.area([(20, 0), (30, 0), (30, 10), (20, 10)], "padding")
    picture.rect(0, 20, 0, 10, "shared")
    picture.text(5, 35, "×", "quiet")
    image = rasterized(picture)
    assert image.size == (80, 80)
    assert image.getpixel((10, 10)) == tuple(bytes.fromhex(LIGHT["real"][1:]))
    assert image.getpixel((50, 10)) == tuple(bytes.fromhex(LIGHT["padding"][1:]))
    assert image.getpixel((30, 10)) == (255, 255, 255)
    assert image.getpixel((0, 50)) == (255, 255, 255)


def test_unsupported_plot_format_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"the name must end in .svg or .png, not 'x.pdf'"):
        require_format("--plot", Path("x.pdf"))
    monkeypatch.setattr("windrow.report.pictures.find_spec", lambda name: None)
    require_format("--plot", Path("x.svg"))
    with pytest.raises(ImportError, match=r"--plot needs Pillow for 'x.png': pip install pillow"):
        require_format("--plot", Path("x.png"))


def test_summary_shows_automatic_sizes():
    chosen = {"memory_budget": 2**30, "planned_bytes": 2**29, "predicted_bytes": 2**28}
    auto = {"scoring": {**chosen, "tokens_per_batch": 8192}, "generation": {**chosen, "slots": 32}}
    report = make_report({**RUN, "auto": auto}, "my_model", 10.0, [])
    assert report["auto"] == auto
    assert "auto        scoring: 8,192 tokens per batch, which need 256 of 1,024 MiB" in summary(report)
    assert "auto        generation: 32 slots, which need 256 of 1,024 MiB" in summary(report)
