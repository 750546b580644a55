"""`sublim report`: what the page says is what the records say, whatever they are; its looks are in tests/browser."""

import dataclasses
import json
import shlex
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments import command as experiments_command
from experiments import tables
from experiments.registry import find
from reports import charts, collect, comparison, known, page, text
from reports.command import report
from sublim_theory.cli import FAILED, MISSED, UsageError, guard
from sublim_theory.results import RecordError, Result
from sublim_theory.statistics import summarize

RECORDS = Path(__file__).parent.parent / "figures"
ALL = sorted(path.parent.name for path in RECORDS.glob("*/summary.json"))
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x00\ud800'\"&</table>"


class Page(HTMLParser):
    """The rows of every table by its caption, the text, the scripts that run, and the tags."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.words, self.tags, self.scripts, self.charts = {}, [], [], 0, []
        self._cell, self._rows, self._inside, self._data = None, [], None, ""
        self.feed(html)
        self.words = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        self._inside = tag
        if tag == "script":
            self.scripts += "type" not in given
            self._inside = "data" if "type" in given else "script"
        if tag == "tr":
            self._rows.append([])
        if tag in ("caption", "td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag == "caption":
            self._rows = self.tables[" ".join(self._cell.split())] = []
        if tag in ("td", "th"):
            self._rows[-1].append(" ".join(self._cell.split()))
        if tag in ("caption", "td", "th"):
            self._cell = None
        if tag == "script":
            if self._inside == "data":
                self.charts.append(json.loads(self._data))
            self._inside, self._data = None, ""

    def handle_data(self, data):
        if self._inside == "data":
            self._data += data
        elif self._inside not in ("script", "style"):
            self.words.append(data)
            if self._cell is not None:
                self._cell += data


@pytest.fixture
def write(tmp_path):
    """`write(*words)` runs the command and gives its status and the page that it wrote."""

    def run(*words):
        status = report([*map(str, words), "--out", str(tmp_path / "report.html")])
        return status, Page((tmp_path / "report.html").read_text("utf-8"))

    return run


@pytest.fixture
def make(tmp_path):
    """`make(name, conditions, **changes)` saves a record and gives its folder."""

    def save(name, conditions, **changes):
        result = Result(
            experiment="unheard_of",
            preset="own",
            config={"seeds": 3},
            conditions={key: summarize(values) for key, values in conditions.items()},
            provenance={"seeds": [0, 1, 2], "commit": None, "dirty": None},
            wall_seconds=1.0,
            expectations=[],
            arrays={},
        )
        dataclasses.replace(result, **changes).save(tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture(scope="module")
def committed():
    records, damaged = collect.read([RECORDS])
    assert not damaged
    return {record.folder.name: record for record in records}


@pytest.fixture(scope="module")
def everything(committed):
    return page.render(list(committed.values()))


def test_every_record_is_in_one_page_of_less_than_10_mb(committed, everything):
    assert sorted(committed) == ALL
    assert len(everything) < 10e6
    shown = Page(everything.decode())
    assert shown.scripts == 2, "the chart library, once, and our own"
    overview = shown.tables["The records, and whether they are as expected"]
    assert len(overview) == 1 + len(ALL)
    for record in committed.values():
        title = f"{record.result.experiment.replace('_', ' ')}, {record.result.preset}"
        judged = bool(record.verdicts)
        rows = shown.tables[f"{'Expected and produced' if judged else 'Produced'}: {title}"]
        said = [row[:5] if judged else [row[0], "", "", row[1], ""] for row in rows[1:]]
        held = {None: "", True: "✓ holds", False: "✗ missed"}
        assert said == [[*row[:-1], held[row.holds]] for row in tables.rows(record.result)]
        assert shown.words.count(f"Made again by {known.command(record)}") >= 1


def test_nothing_in_the_page_comes_from_elsewhere(everything):
    shown = Page(everything.decode())
    for tag, given in shown.tags:
        address = given.get("src") or given.get("href") or "#"
        assert address == "data:," if tag == "link" else address.startswith("#"), (tag, given)
    assert not {"iframe", "object", "embed", "form"} & {tag for tag, _ in shown.tags}


def test_the_overview_counts_what_holds(write):
    status, shown = write(RECORDS / "fig10-paper", RECORDS / "sweep_width-default")
    (_, fig10, width) = shown.tables["The records, and whether they are as expected"]
    assert status == 0
    assert fig10[:6] == ["fig10", "paper", "100", "6", "6 of 6 hold", "0"]
    assert width[:6] == ["sweep_width", "default", "5", "24", "none", ""]
    assert "A reference network is drawn." in shown.words  # the claim
    assert "Over the width of the hidden layers" in shown.words
    provenance = dict(shown.tables["Provenance: fig10, paper"])
    assert provenance["seeds"] == "0 to 99"
    assert provenance["dataset_sha256"].startswith("4f0b1b7e")
    assert provenance["version of jax"]
    assert dict(shown.tables["Config: fig10, paper"])["hidden"] == "[256, 256]"


def test_a_missed_expectation_is_said(write, make):
    sample = {"condition": "a", "expected": 1.0, "ci95": 0.1, "low": 0.8, "high": 1.2, "produced": 2.0}
    rows = [sample | {"holds": False, "source": "elsewhere"}]
    rows.append(rows[0] | {"condition": "b", "expected": None, "ci95": None, "low": None, "holds": True})
    status, shown = write(make("r", {"a": [1, 2, 3], "b": [0, 0, 1]}, expectations=rows))
    assert status == 0, "the report is made; its verdict is in the page"
    assert shown.tables["The records, and whether they are as expected"][1][4:6] == ["1 of 2 hold", "1"]
    _, a, b = shown.tables["Expected and produced: unheard of, own"]
    assert a == ["a", "1.0000 ± 0.1000", "0.8000 to 1.2000", "2.0000 ± 1.1316", "✗ missed", "1.0000 to 3.0000", "3"]
    assert b[1:5] == ["every seed", "at most 1.2000", "at worst 2.0000", "✓ holds"]


def test_every_condition_is_drawn_once_with_all_of_its_seeds(committed):
    for name, record in committed.items():
        drawn = [
            point for chart in charts.charts(record) for series in chart.data["series"] for point in series["points"]
        ]
        assert sorted(point["name"] for point in drawn) == sorted(record.result.conditions), name
        for point in drawn:
            found = record.result.conditions[point["name"]]
            assert point["values"] == pytest.approx(found.values, rel=1e-5)
            assert (point["mean"], point["ci95"]) == pytest.approx((found.mean, found.ci95), rel=1e-5)


def test_a_sweep_is_drawn_over_its_values(committed):
    found = {chart.title: chart for chart in charts.charts(committed["sweep_auxiliary-paper"])}
    assert list(found) == ["student_aux", "cross_aux", "reference", "teacher"]
    student = found["student_aux"]
    assert (student.kind, student.axis) == ("lines", "auxiliary")
    assert student.places == ["1", "2", "3", "5", "10", "20", "50"]
    assert [series["name"] for series in student.series] == ["loss kl", "loss squared_error"]
    assert [point["at"] for point in student.series[0]["points"]] == list(range(7))

    (width,) = charts.charts(committed["sweep_width-default"])
    assert (width.kind, width.axis, width.places[0]) == ("lines", "hidden", "16x16")
    assert [series["name"] for series in width.series] == ["reference", "teacher", "student_aux", "cross_aux"]


def test_conditions_that_belong_together_share_a_chart(committed):
    by_title = {chart.title: chart for chart in charts.charts(committed["init_distance-default"])}
    assert by_title[""].places == ["reference", "teacher", "student_aux"]
    assert (by_title["interpolated"].kind, by_title["interpolated"].places[0]) == ("lines", "0.1")
    assert by_title["sigma_star_relative"].kind == "dots"
    linearised = {chart.title: chart for chart in charts.charts(committed["linearised-default"])}
    assert linearised["agreement"].places == linearised["by number"].places == ["32", "64", "128", "256"]
    assert "adam/first_order" in [series["name"] for series in linearised["agreement"].series]
    (ablations,) = charts.charts(committed["ablations-default"])
    assert (ablations.kind, ablations.places[0], len(ablations.series)) == ("dots", "as published", 4)
    fig10 = charts.charts(committed["fig10-paper"])[0]
    assert [point["band"] is not None for point in fig10.series[0]["points"]] == [True] * 6


@pytest.mark.parametrize("name", ["fig10-paper", "sweep_auxiliary-paper", "detection-default", "theorem_layers-paper"])
def test_the_command_reads_back_as_the_config(committed, name):
    record = committed[name]
    sublim, reproduce, experiment, *words = shlex.split(known.command(record))
    assert (sublim, reproduce) == ("sublim", "reproduce")
    run, config = experiments_command._parse(experiment, find(experiment), words)
    assert run.preset == record.result.preset
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    assert {key: record.result.config[key] for key in plain if key in record.result.config} == {
        key: value for key, value in plain.items() if key in record.result.config
    }


def test_the_command_has_what_differs_from_the_preset(committed):
    record = committed["fig10-paper"]

    def command(experiment="fig10", preset="paper", **config):
        changed = {**record.result.config, **config}
        result = dataclasses.replace(record.result, experiment=experiment, preset=preset, config=changed)
        return known.command(dataclasses.replace(record, result=result))

    usual = "sublim reproduce fig10 --preset paper"
    assert command(hidden=[8, 4], bias=False) == f"{usual} --hidden 8 4 --no-bias"
    assert command(loss="$(rm -rf ~)") == f"{usual} --loss '$(rm -rf ~)'"
    swept = command(experiment="sweep_fig10", vary={"temperature": [1.0, 4.0], "hidden": [[8], [8, 8]]})
    assert swept == "sublim sweep fig10 --preset paper --vary temperature=1,4 --vary hidden=8,8x8"
    assert command(experiment="os") is None
    assert command(preset="custom") is None
    assert command(experiment="sweep_fig10", vary={"hidden": [{"a": 1}]}) is None
    assert command(experiment="sweep_width", vary={"hidden": [[1]]}) is None, "the preset has other values"


def test_what_a_hostile_record_says_is_text(write, make):
    expected = {"condition": HOSTILE, "expected": 1.0, "ci95": 0.1, "low": 0.0, "high": 1.2, "produced": 1.0}
    folder = make(
        "hostile",
        {HOSTILE: [1e100, -1e99, 0], f"{HOSTILE}/a": [1, 2, 3], f"{HOSTILE}/b": [1, 2, 3], "x" * 100_000: [1, 2, 3]},
        experiment=HOSTILE,
        preset=HOSTILE,
        config={HOSTILE: HOSTILE, "points": [HOSTILE], "vary": {HOSTILE: HOSTILE}, "long": ["y" * 1_000_000]},
        provenance={"seeds": [0, 1, 10**40], "versions": HOSTILE, "commit": {HOSTILE: [HOSTILE]}, "dirty": HOSTILE},
        expectations=[expected | {"holds": True, "source": HOSTILE}],
        wall_seconds=1e300,
    )
    status, shown = write(folder, "--against", folder)
    assert status == 0
    assert shown.scripts == 2
    assert "img" not in {tag for tag, _ in shown.tags}
    assert not [given for _, given in shown.tags if any(name.startswith("on") for name in given)]
    assert "<script>alert(1)</script>" in shown.words
    assert not [character for character in shown.words if not character.isprintable()]
    assert len(shown.words) < 50_000
    assert all("alert(1)" in json.dumps(chart) or "xxx" in json.dumps(chart) for chart in shown.charts)


def test_many_conditions_and_values_are_cut_and_that_is_said(write, make):
    many = {f"group/{i}/{i % 7}": [0.5, 0.25, 1] for i in range(3000)}
    status, shown = write(make("many", many), make("long", {"a": np.linspace(0, 1, 100_000)}, preset="long"))
    assert status == 0
    assert len(shown.tables["Produced: unheard of, own"]) == 1 + page.MOST_ROWS
    assert "The first 1000 of 3000 conditions" in shown.words
    assert "The figures show the first 300 of 3000 conditions." in shown.words
    drawn = [len(point["values"]) for chart in shown.charts for each in chart["series"] for point in each["points"]]
    assert len(drawn) == charts.MOST_CONDITIONS + 1
    assert max(drawn) == charts.MOST_VALUES


DAMAGE = {
    "half": lambda text: text[: len(text) // 2],
    "nan": lambda text: text.replace("0.5", "NaN"),
    "infinite": lambda text: text.replace("0.5", "1e999"),
    "schema": lambda text: text.replace('"schema": 1', '"schema": 99'),
    "list": lambda _: "[]",
    "deep": lambda _: "[" * 100_000,
    "binary": lambda _: "\x00\ud800",
    "no expectation": lambda text: text.replace('"expectations": []', '"expectations": [1]'),
    "half an expectation": lambda text: text.replace('"expectations": []', '"expectations": [{"condition": "a"}]'),
}


def test_damaged_records_are_named_and_the_rest_is_shown(write, make, tmp_path, capsys):
    for name, damage in DAMAGE.items():
        path = make(f"in/{name}", {"a": [0.5, 0.25, 1]}) / "summary.json"
        path.write_bytes(damage(path.read_text("utf-8")).encode("utf-8", "surrogatepass"))
    (tmp_path / "in/folder/summary.json").mkdir(parents=True)
    (tmp_path / "in/dangling").mkdir()
    (tmp_path / "in/dangling/summary.json").symlink_to("nowhere")
    make("in/whole", {"a": [0.5, 0.25, 1]})
    (tmp_path / "in/other").mkdir()
    status, shown = write(tmp_path / "in")
    assert status == MISSED
    assert len(shown.tables["The records, and whether they are as expected"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(DAMAGE) + 2
    for name in (*DAMAGE, "folder", "dangling"):
        assert any(f"in/{name}" in line for line in errors), name
        assert str(tmp_path / "in" / name) in shown.words


def test_without_any_record_that_can_be_read_nothing_is_written(make, tmp_path, capsys):
    (make("r", {"a": [1, 2]}) / "summary.json").write_text("{}")
    out = tmp_path / "report.html"
    assert guard(report, [str(tmp_path / "r"), "--out", str(out)]) == FAILED
    assert "no record could be read" in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()


def test_mistakes_are_one_line(make, tmp_path):
    folder = make("r", {"a": [1, 2]})
    (tmp_path / "empty").mkdir()
    for words, said in {
        ("nowhere",): "cannot list nowhere: No such file",
        (folder / "summary.json",): "Not a directory",
        (tmp_path / "empty",): "no record in",
        (): "name at least one folder",
        (folder, "--against", "nowhere"): "cannot list nowhere",
        (folder, "--colour", "red"): "--colour",
    }.items():
        with pytest.raises(UsageError, match=said) as raised:
            report(list(map(str, words)))
        assert "\n" not in str(raised.value)
    with pytest.raises(RecordError, match="choose another folder with --out"):
        report([str(folder), "--out", str(tmp_path / "empty")])
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("library", ["jinja2", "plotly"])
def test_what_is_not_installed_is_said(make, monkeypatch, library):
    for module in [name for name in sys.modules if name.split(".")[0] == library] or [library]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "reports.page")
    monkeypatch.delattr("reports.page")
    with pytest.raises(UsageError, match=rf"^{library} is not installed; pip install 'sublim-theory\[report\]'$"):
        report([str(make("r", {"a": [1, 2]}))])


def test_a_folder_given_twice_is_shown_once(write, make):
    folder = make("r", {"a": [1, 2, 3]})
    _, shown = write(folder, folder.parent)
    assert len(shown.tables["The records, and whether they are as expected"]) == 2


def test_two_equal_runs_are_bit_equal(write):
    status, shown = write(RECORDS / "fig10-paper", "--against", RECORDS)
    assert status == 0
    _, row = next(rows for caption, rows in shown.tables.items() if caption.startswith("This run beside"))
    assert row == ["fig10, paper", "6", "6", "0", "0 to 99"]
    assert "All 6 conditions are bit-equal" in shown.words
    assert "Config and provenance are the same." in shown.words
    assert "In the other only: ablations, default" in shown.words


def test_two_runs_are_compared_seed_by_seed(make, write):
    rng = np.random.default_rng(0)
    ours, noise = rng.normal(size=6), rng.normal(size=6) / 50
    theirs = ours[1:] - 0.1 + noise[1:]
    here = make("here", {"a": ours, "b": [1.0] * 6, "c": [0] * 6}, provenance={"seeds": [0, 1, 2, 3, 4, 5]})
    there = make(
        "there",
        {"b": [0.75] * 5, "a": theirs, "d": [1] * 5},
        provenance={"seeds": [1, 2, 3, 4, 5], "device": "another"},
        config={"seeds": 5},
    )
    ((found,), left) = comparison.match(collect.read([here])[0], collect.read([there])[0])
    assert left == []
    assert found.seeds == (1, 2, 3, 4, 5)
    a, b, c, d = found.differences
    oracle = stats.ttest_rel(ours[1:], theirs).confidence_interval(0.95)
    assert (a.mean - a.ci95, a.mean + a.ci95) == pytest.approx((oracle.low, oracle.high))
    assert (a.pairs, a.equal, a.seen) == (5, False, True)
    assert (b.mean, b.ci95, b.seen) == (0.25, 0, True)
    assert (c.theirs, c.mean, d.ours) == (None, None, None)
    assert ("config: seeds", "3", "5") in found.settings
    assert ("provenance: device", "not there", "another") in found.settings

    _, shown = write(here, "--against", there)
    rows = {row[0]: row for row in shown.tables["This run and the other: unheard of, own"]}
    assert rows["b"] == ["b", "1.0000 ± 0.0", "0.7500 ± 0.0", "0.2500 ± 0.0", "no", "excludes 0"]
    assert rows["c"][2] == rows["d"][1] == "not there"
    assert "each seed with itself, with the 95% interval of the paired t-test" in shown.words


def test_other_seeds_are_another_sample(make):
    here = make("here", {"a": [1, 2, 3], "b": [1], "c": [1e308]}, provenance={"seeds": [0, 1, 2]})
    there = make("there", {"a": [2, 3, 4], "b": [1], "c": [-1e308]}, provenance={"seeds": [7, 8, 9]})
    found = comparison.compare(*collect.read([here])[0], *collect.read([there])[0])
    a, b, c = found.differences
    assert (a.mean, a.pairs) == (-1, 0)
    assert a.ci95 == pytest.approx(2**0.5 * summarize([1, 2, 3]).ci95)
    assert not a.seen
    assert (b.mean, b.ci95, b.equal) == (0, None, False), "other seeds"
    assert c.mean is None, "beyond the largest number"


def test_runs_are_matched_by_experiment_preset_and_folder(make):
    ours = [make(f"a/{name}", {"x": [1]}, preset=preset) for name, preset in [("p", "own"), ("q", "own"), ("r", "no")]]
    theirs = [make(f"b/{name}", {"x": [1]}) for name in ("z", "q")]
    found, left = comparison.match(collect.read(ours)[0], collect.read(theirs)[0])
    assert [each and each.theirs.folder.name for each in found] == ["z", "q", None]
    assert left == []


def test_a_text_is_short_and_printable():
    assert text.clip("a\nb\u202ec") == "a\ufffdb\ufffdc"
    assert len(text.clip("x" * 1000)) == text.LONGEST
    deep = json.loads("[" * 900 + "]" * 900)
    assert text.value(deep).startswith(("[[[", "nested"))
    assert [text.value(each) for each in (None, True, {"a": 1})] == ["none", "yes", '{"a": 1}']
    assert [text.seeds(each) for each in ((0, 1, 2), (3, 5), (0, 10**40), None)] == [
        "0 to 2",
        "3, 5",
        f"0, {10**40}",
        "unknown",
    ]
    assert [text.duration(each) for each in (0.04, 75.04, 600, 86400)] == ["0.0 s", "75.0 s", "10 min", "24.0 h"]


def test_the_command_says_what_it_wrote(make, tmp_path, capsys):
    folder = shutil.copytree(make("r", {"a": [1, 2]}), tmp_path / "copy here")
    out = tmp_path / "a folder/page.html"
    assert guard(report, [str(folder), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {shlex.quote(str(out))}: 1 record, ")
    assert out.read_text("utf-8").startswith("<!doctype html>")
