"""`aiofs bench report`: the page, its plots, and what it refuses to overwrite."""

import json
import re
import sys
from pathlib import Path

import pytest

from aiofs.bench import plots, results
from aiofs.bench.keys import KEYS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def drawing():
    """matplotlib, which keeps the files of its fonts open once it has drawn a text."""
    pytest.importorskip("matplotlib")
    for plot in plots.plots([job("a", {})]):
        plots.png(plot)


def spread(value):
    return {"median": value, "least": value * 0.9, "most": value * 1.2}


def job(name, varies, **keys):
    """A job of two participants and one that was left out, with every metric."""
    metrics = {
        **{metric: spread(2e-6) for metric in ("time", "cpu", *results.QUANTILES)},
        **{metric: spread(1e-3) for metric in results.STALLS},
        "ratio": spread(2),
    }
    return {
        "job": name,
        "group": "group",
        "varies": varies,
        "keys": {**{key: spec.default for key, spec in KEYS.items()}, **varies, **keys},
        "work": "some work",
        "buffers": "",
        "reference": "C",
        "participants": {
            "C": {"about": {"version": "pread"}, "metrics": metrics},
            "aiofs": {"about": {"version": "aiofs"}, "metrics": metrics},
            "<urio>": {"unavailable": "not installed & not here"},
        },
    }


def document(*jobs):
    return {"format": results.FORMAT, "facts": {"kernel": "6"}, "rounds": 2, "jobs": list(jobs)}


@pytest.fixture
def result(tmp_path):
    """result(document) writes a result. Returns its path."""

    def write(content, name="results.json"):
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write


def titles(*jobs):
    return [plot.title for plot in plots.plots(jobs)]


def test_a_varied_key_gives_throughput_against_it():
    found = titles(*(job(f"iodepth={n}", {"iodepth": n}) for n in (1, 8)))
    assert found[0] == "group: throughput against iodepth"
    assert "iodepth=8: latency distribution" in found and "iodepth=8: loop stall" in found


def test_two_varied_keys_give_a_plot_for_each_value_of_the_other():
    grid = [{"bs": bs, "iodepth": depth} for bs in (4096, 8192) for depth in (1, 8)]
    found = [title for title in titles(*(job(str(cell), cell) for cell in grid)) if "thr" in title]
    assert found == [
        "group iodepth=1: throughput against bs",
        "group iodepth=8: throughput against bs",
        "group bs=4k: throughput against iodepth",
        "group bs=8k: throughput against iodepth",
    ]


def test_what_grows_is_plotted_by_its_cost():
    grown = [job(f"handles={n}", {"handles": n}) for n in (1, 10_000)]
    assert titles(*grown)[0] == "group: time against handles"


def test_a_key_with_words_has_no_axis():
    assert "against" not in str(titles(*(job(v, {"volume": v}) for v in ("file", "host"))))


def test_job_that_nobody_could_do_has_no_plot():
    empty = {**job("x", {}), "participants": {"C": {"unavailable": "no compiler"}}}
    assert titles(empty) == []


def test_page_needs_nothing_else_and_has_every_plot(drawing, bench, result, tmp_path):
    jobs = [job(f"iodepth={n}", {"iodepth": n}) for n in (1, 8)]
    output = tmp_path / "report"
    status, out, _ = bench("report", result(document(*jobs)), "--output", output)
    assert (status, out) == (0, f"{output / 'report.html'}\n")
    page = (output / "report.html").read_text()
    drawn = sorted(output.glob("*.png"))
    assert len(drawn) == len(titles(*jobs)) == page.count("data:image/png;base64,")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page
    assert "&lt;urio&gt;: left out: not installed &amp; not here" in page


def test_earlier_report_is_replaced_and_nothing_else(drawing, bench, result, tmp_path):
    path, output = result(document(job("a", {}))), tmp_path / "report"
    for _ in range(2):
        assert bench("report", path, "--output", output)[0] == 0
    mine = next(output.glob("*.png"))
    mine.write_bytes(b"a photograph")
    status, _, err = bench("report", path, "--output", output)
    assert status == 2 and str(mine) in err
    assert mine.read_bytes() == b"a photograph"


def test_missing_matplotlib_says_what_to_install(bench, result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    output = tmp_path / "report"
    status, _, err = bench("report", result(document(job("a", {}))), "--output", output)
    assert status == 2 and "pip install 'aiofs[bench]'" in err
    assert not output.exists()


@pytest.mark.parametrize("content", [[], {}, {"format": "another"}, None, 5])
def test_what_is_no_result_is_named(bench, result, content):
    path = result(content)
    status, _, err = bench("report", path)
    assert status == 2 and f"{path}: is no result" in err


def test_missing_results_are_named(bench, tmp_path):
    assert "No such file" in bench("report", tmp_path / "none.json")[2]
    assert "name at least one result" in bench("report")[2]
    (tmp_path / "text").write_text("text")
    assert "is no JSON" in bench("report", tmp_path / "text")[2]


def test_results_of_the_goals_are_read():
    read = results.load(ROOT / "benchmarks" / "results" / "latest.json")
    assert read["jobs"][0]["reference"] == "C"
    assert "loop stall" in {title.split(": ")[-1] for title in titles(*read["jobs"])}
