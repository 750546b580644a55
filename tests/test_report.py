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
import xarray as xr
from scipy import stats

from experiments import SUMMARIES, tables
from experiments import command as experiments_command
from experiments.registry import find
from reports import charts, comparison, known, page
from reports.command import read, report
from sublim_theory.cli import FAILED, MISSED, UsageError, guard
from sublim_theory.protocols import SublimError
from sublim_theory.record import Record, RecordError, label
from sublim_theory.statistics import paired, summarize

RECORDS = Path(__file__).parent.parent / "figures"
ALL = sorted(path.parent.name for path in RECORDS.glob("*/summary.json"))
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x00\ud800'\"&</table>"
OVERVIEW = "The records, and whether they are as expected"
EXPECTED = {"condition": "a", "expected": 1.0, "ci95": 0.1, "low": 0.8, "high": 1.2, "produced": 2.0}
EXPECTED |= {"holds": False, "source": "elsewhere"}


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


def of(conditions, **changes):
    """A record of conditions by name, one value a seed."""
    most = max(map(len, conditions.values()))
    values = np.array([[*each, *[np.nan] * (most - len(each))] for each in conditions.values()], np.float64)
    attributes = {"condition": "{network}", "over": "seed"}
    seeds = changes.pop("seeds", range(most))
    record = Record(
        experiment="unheard_of",
        preset="own",
        config={"seeds": most},
        table=xr.Dataset(
            {"accuracy": (("network", "seed"), values, attributes)}, {"network": list(conditions), "seed": list(seeds)}
        ),
        provenance={"seeds": list(seeds), "commit": None, "dirty": None},
        wall_seconds=1.0,
        expectations=[],
    )
    return dataclasses.replace(record, **changes)


def over(axes, condition, *, vary=None, **config):
    """A record of one variable over axes, which are given with their coordinates, and three seeds."""
    shape = [*map(len, axes.values()), 3]
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    table = xr.Dataset(
        {"accuracy": ((*axes, "seed"), values, {"condition": condition, "over": "seed"})}, axes | {"seed": [4, 5, 6]}
    )
    return of({"a": [0]}, table=table, config=config | ({"vary": vary} if vary else {}))


@pytest.fixture
def make(tmp_path):
    """`make(name, conditions, **changes)` saves a record and gives its folder."""

    def save(name, conditions, **changes):
        of(conditions, **changes).save(tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture(scope="module")
def committed():
    records, damaged = read(RECORDS / name for name in ALL)
    assert not damaged
    return {folder.name: record for folder, record in records.items()}


def test_every_committed_record_is_in_one_page_of_less_than_10_mb(committed):
    assert sorted(committed) == ALL
    written = page.render({RECORDS / name: record for name, record in committed.items()}, [], {})
    assert len(written) < 10e6
    shown = Page(written.decode())
    assert shown.scripts == 2, "the chart library, once, and our own"
    assert len(shown.tables[OVERVIEW]) == 1 + len(ALL)
    for record in committed.values():
        title = f"{record.experiment.replace('_', ' ')}, {record.preset}"
        judged = bool(record.expectations)
        rows = shown.tables[f"{'Expected and produced' if judged else 'Produced'}: {title}"]
        said = [row[:5] if judged else [row[0], "", "", row[1], ""] for row in rows[1:]]
        held = {None: "", True: "✓ holds", False: "✗ missed"}
        assert said == [[*row[:-1], held[row.holds]] for row in tables.rows(record)]
        assert shown.words.count(f"Made again by {known.command(record)}") >= 1


def test_nothing_in_the_page_comes_from_elsewhere(write, make):
    _, shown = write(make("r", {"a": [1, 2, 3]}))
    for tag, given in shown.tags:
        address = given.get("src") or given.get("href") or "#"
        assert address == "data:," if tag == "link" else address.startswith("#"), (tag, given)
    assert not {"iframe", "object", "embed", "form"} & {tag for tag, _ in shown.tags}
    policy = next(given["content"] for tag, given in shown.tags if given.get("http-equiv"))
    assert policy.startswith("default-src 'none';")
    assert policy.count("'sha256-") == 2
    assert "unsafe" not in policy.split("script-src")[1]


def test_the_overview_counts_what_holds_and_a_missed_expectation_is_said(write, make):
    expected = [EXPECTED, EXPECTED | {"condition": "b", "expected": None, "ci95": None, "low": None, "holds": True}]
    known_one = {"experiment": "fig10", "preset": "paper", "expectations": expected}
    folders = (
        make("k", {"a": [1, 2, 3], "b": [0, 0, 1]}, **known_one),
        make("r", {"a": [1] * 100}, experiment="sweep_width"),
    )
    status, shown = write(*folders)
    assert status == 0, "the report is made; its verdict is in the page"
    (_, fig10, width) = shown.tables[OVERVIEW]
    assert fig10 == ["fig10, paper", "3", "2", "1 of 2 hold", "1.0 s"]
    assert width == ["sweep width, own", "100", "1", "none", "1.0 s"]
    _, a, b = shown.tables["Expected and produced: fig10, paper"]
    assert a == ["a", "1.0000 ± 0.1000", "0.8000 to 1.2000", "2.0000 ± 1.1316", "✗ missed", "1.0000 to 3.0000", "3"]
    assert b[1:5] == ["every seed", "at most 1.2000", "at worst 2.0000", "✓ holds"]
    for said in ("Expected: elsewhere", "A *reference* network is drawn.", "Over the width of the hidden layers"):
        assert said in shown.words
    origin = dict(shown.tables["Config and provenance: fig10, paper"])
    assert (origin["config: seeds"], origin["provenance: seeds"]) == ("3", "[0, 1, 2]")
    assert origin["provenance: commit"] == "null"


def traces(figure, kind):
    return [trace for trace in figure.data if trace.type == kind]


def test_every_condition_is_drawn_once_with_all_of_its_seeds(committed):
    for name, record in committed.items():
        if len(record.rows) > charts.MOST_CONDITIONS:
            continue
        figures = [figure for _, figure in charts.charts(record)]
        assert sum(len(t.hovertext) for each in figures for t in traces(each, "scatter")) == len(record.rows), name
        drawn = {value for each in figures for t in traces(each, "box") for axis in "xy" for value in t[axis]}
        values = [value for row in record.rows for value in row.summary.values]
        assert drawn >= {float(f"{value:.7g}") for value in values}, name  # more digits make a page that is too large


def test_a_swept_setting_is_the_axis_of_lines():
    axes = {"auxiliary": [1, 3, 10], "loss": ["kl", "huber"], "network": ["reference", "student_aux"]}
    vary = {"auxiliary": [1, 3, 10], "loss": ["kl", "huber"]}
    name = "auxiliary={auxiliary},loss={loss}/{network}"
    found = dict(charts.charts(over(axes, name, vary=vary, auxiliary=3, loss="kl")))
    assert list(found) == ["accuracy, network reference", "accuracy, network student aux"]
    student = found["accuracy, network student aux"]
    assert (student.layout.xaxis.title.text, student.layout.legend.title.text) == ("auxiliary", "loss")
    assert student.layout.xaxis.categoryarray == ("1", "3", "10")
    kl, huber = traces(student, "scatter")
    assert (kl.name, huber.name, kl.mode) == ("kl", "huber", "lines+markers")
    assert (kl.x, kl.y) == (("1", "3", "10"), (4, 16, 28))
    assert kl.hovertext[0].startswith("auxiliary=1,loss=kl/student_aux<br>mean 4.0000")
    values = traces(student, "box")[0]
    assert (values.x[:4], values.y[:4]) == (("1", "1", "1", "3"), (3, 4, 5, 15))
    assert values.hovertext[1] == "auxiliary=1,loss=kl/student_aux<br>seed 5: 4.0000"


def test_numbers_are_the_axis_of_lines_in_their_order_and_words_have_rows():
    ((_, numbers),) = charts.charts(over({"width": [64, 8, 16], "group": ["a", "b"]}, "{width}/{group}"))
    assert numbers.layout.xaxis.categoryarray == ("8", "16", "64")
    assert [trace.name for trace in traces(numbers, "scatter")] == ["a", "b"]
    changes = over(
        {"change": ["as published", "m = 50"], "network": ["x", "y"]}, "{change}/{network}", vary={"change": [1]}
    )
    ((_, words),) = charts.charts(changes)
    assert [each.text for each in words.layout.annotations] == ["as published", "m = 50"]
    assert [trace.name for trace in traces(words, "scatter")] == ["x", "y"]
    assert traces(words, "scatter")[0].mode == "markers"
    ((title, alone),) = charts.charts(over({}, "teacher"))
    assert (title, alone.layout.annotations[0].text, alone.layout.showlegend) == ("accuracy", "teacher", False)


def test_every_variable_with_conditions_has_a_chart_with_bands():
    record = of(
        {"a": [1, 2], "b": [3, 4]},
        expectations=[EXPECTED, EXPECTED | {"condition": "b", "expected": None, "ci95": None}],
    )
    more = {
        "cosine": ("seed", [0.5, 0.25], {"condition": "cosine", "over": "seed"}),
        "loss": (("seed", "step"), np.ones((2, 9))),
    }
    found = dict(charts.charts(dataclasses.replace(record, table=record.table.assign(more))))
    assert list(found) == ["accuracy", "cosine"]
    ((band,), (nothing,)) = (traces(figure, "bar") for figure in found.values())
    assert (band.y, band.base) == (("a",), (0.8,))
    assert band.x == pytest.approx((0.4,))
    assert not nothing.x


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_command_reads_back_as_the_config(name):
    preset, settings = list(find(name).presets.items())[-1]
    vary = find(name).vary(settings, preset) if find(name).vary else {}
    config = json.loads(json.dumps(settings.flat() | {"vary": {k: [*map(label, v)] for k, v in vary.items()}}))
    changed = {"seeds": 3, "dataset": "none" if settings.dataset == "none" else "fashion_mnist"}
    config |= changed
    sublim, reproduce, again, *words = shlex.split(
        known.command(of({"a": [0]}, experiment=name, preset=preset, config=config))
    )
    assert (sublim, reproduce, again) == ("sublim", "reproduce", name)
    run, read_back = experiments_command._parse(name, preset, words)
    assert run.preset == preset
    assert read_back == settings.but(**changed)


def test_the_command_has_what_differs_from_the_preset():
    settings = json.loads(json.dumps(find("fig10").presets["paper"].flat()))

    def command(experiment="fig10", preset="paper", **config):
        return known.command(of({"a": [0]}, experiment=experiment, preset=preset, config={**settings, **config}))

    usual = "sublim reproduce fig10 --preset paper"
    assert command() == usual
    assert command(hidden=[8, 4], bias=False) == f"{usual} --hidden 8 4 --no-bias"
    assert command(loss="$(rm -rf ~)") == f"{usual} --loss '$(rm -rf ~)'"
    swept = command(experiment="sweep_fig10", vary={"temperature": [1.0, 4.0], "hidden": ["8", "8x8"]})
    assert swept == "sublim sweep fig10 --preset paper --vary temperature=1,4 --vary hidden=8,8x8"
    assert command(experiment="os") is None
    assert command(preset="custom") is None
    assert command(experiment="sweep_fig10") is None
    assert command(experiment="sweep_fig10", vary={"hidden": [{"a": 1}]}) is None
    assert command(experiment="sweep_width", vary={"hidden": ["1"]}) is None, "the preset has other values"


def test_what_a_hostile_record_says_is_text(write, make):
    expected = EXPECTED | {"condition": HOSTILE, "low": -1e308, "high": 1e308, "source": HOSTILE}
    folder = make(
        "hostile",
        {HOSTILE: [1e100, -1e99, 0], f"{HOSTILE}/a": [1, 2, 3], f"{HOSTILE}/b": [1, 2, 3], "x" * 100_000: [1, 2, 3]},
        experiment=HOSTILE,
        preset=HOSTILE,
        config={HOSTILE: HOSTILE, "points": [HOSTILE], "vary": {HOSTILE: HOSTILE}, "long": ["y" * 1_000_000]},
        provenance={"seeds": [0, 1, 10**40], "versions": HOSTILE, "commit": {HOSTILE: [HOSTILE]}, "dirty": HOSTILE},
        expectations=[expected],
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
    assert "<script" not in json.dumps(shown.charts), "the chart library would take it for markup"


def test_many_conditions_and_values_are_cut_and_that_is_said(write, make):
    many = {f"group/{i}/{i % 7}": [0.5, 0.25, 1] for i in range(3000)}
    status, shown = write(make("many", many), make("long", {"a": np.linspace(0, 1, 100_000)}, preset="long"))
    assert status == 0
    assert len(shown.tables["Produced: unheard of, own"]) == 1 + page.MOST_ROWS
    assert "Of 3000 conditions the figures show the first 300, the table at most 1000" in shown.words
    boxes = {len(trace["y"]) for chart in shown.charts for trace in chart["data"] if trace["type"] == "box"}
    assert boxes == {charts.MOST_CONDITIONS * 3, charts.MOST_VALUES}


def expecting(row):
    return lambda text: text.replace('"expectations": []', f'"expectations": [{json.dumps(row)}]')


DAMAGE = {
    "half": lambda text: text[: len(text) // 2],
    "schema": lambda text: text.replace('"schema": 2', '"schema": 1'),
    "binary": lambda _: "\x00\ud800",
    "no expectation": expecting(1),
    "half an expectation": expecting({"condition": "a"}),
    "word for a number": expecting(EXPECTED | {"low": "a"}),
    "of nothing": expecting(EXPECTED | {"condition": "b"}),
    "too large": expecting(EXPECTED | {"produced": 10**400, "expected": 10**400}),
    "no verdict": expecting(EXPECTED | {"holds": []}),
}


def test_damaged_records_are_named_and_the_rest_is_shown(write, make, tmp_path, capsys):
    for name, damage in DAMAGE.items():
        path = make(f"in/{name}", {"a": [0.5, 0.25, 1]}) / "summary.json"
        path.write_bytes(damage(path.read_text("utf-8")).encode("utf-8", "surrogatepass"))
    next(make("in/no table", {"a": [0.5, 0.25, 1]}).glob("table-*")).unlink()
    (tmp_path / "in/folder/summary.json").mkdir(parents=True)
    (tmp_path / "in/dangling").mkdir()
    (tmp_path / "in/dangling/summary.json").symlink_to("nowhere")
    make("in/whole", {"a": [0.5, 0.25, 1]})
    (tmp_path / "in/other").mkdir()
    status, shown = write(tmp_path / "in")
    assert status == MISSED
    assert len(shown.tables[OVERVIEW]) == 2
    errors = capsys.readouterr().err.splitlines()
    damaged = (*DAMAGE, "no table", "folder", "dangling")
    assert len(errors) == len(damaged)
    for name in damaged:
        assert any(f"in/{name}" in line for line in errors), name
        assert str(tmp_path / "in" / name) in shown.words
    assert any("in/schema" in line and "another schema" in line for line in errors)


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
        ("nowhere",): "no record in nowhere",
        (folder / "summary.json",): "no record in",
        (tmp_path / "empty",): "no record in",
        (): "name at least one folder",
        (folder, "--against", "nowhere"): "no record in nowhere",
        (folder, "--colour", "red"): "--colour",
    }.items():
        with pytest.raises(SublimError, match=said) as raised:
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


def test_two_equal_runs_are_bit_equal(write, make):
    folder = make("here/r", {"a": [1, 2, 3], "b": [0, 0, 1]})
    make("there/left", {"a": [1]}, experiment="other")
    shutil.copytree(folder, folder.parent.parent / "there/r")
    status, shown = write(folder, "--against", folder.parent.parent / "there")
    assert status == 0
    assert shown.tables[OVERVIEW][1][-1] == "2 of 2 bit-equal, 0 intervals exclude 0"
    assert "Config and provenance are the same." in shown.words
    assert f"In the other only: {folder.parent.parent / 'there/left'}" in shown.words


def test_two_runs_are_compared_seed_by_seed(make, write):
    rng = np.random.default_rng(0)
    ours, noise = rng.normal(size=6), rng.normal(size=6) / 50
    theirs = ours[1:] - 0.1 + noise[1:]
    here = make("here", {"a": ours, "b": [1.0] * 6, "c": [0] * 6})
    there = make(
        "there",
        {"b": [0.75] * 5, "a": theirs, "d": [1] * 5},
        seeds=[1, 2, 3, 4, 5],
        provenance={"seeds": [1, 2, 3, 4, 5], "device": "another"},
    )
    (ours_read, _), (theirs_read, _) = read([here]), read([there])
    assert comparison.match(ours_read, theirs_read) == {here: there}
    a, b, c, d = comparison.compare(ours_read[here], theirs_read[there])
    oracle = stats.ttest_rel(ours[1:], theirs).confidence_interval(0.95)
    found = a.difference
    assert (found.mean - found.ci95, found.mean + found.ci95) == pytest.approx((oracle.low, oracle.high))
    assert (found.n, a.equal, a.seen) == (5, False, True)
    assert (b.difference.mean, b.difference.ci95, b.seen) == (0.25, 0, True)
    assert (c.theirs, c.difference, d.ours) == (None, None, None)

    _, shown = write(here, "--against", there)
    rows = {row[0]: row for row in shown.tables["This run and the other: unheard of, own"]}
    assert rows["b"] == ["b", "1.0000 ± 0.0", "0.7500 ± 0.0", "0.2500 ± 0.0", "excludes 0", "5", "no"]
    assert rows["c"][2] == rows["d"][1] == "not there"
    assert "each with itself, with the 95% interval of the paired t-test" in shown.words
    settings = shown.tables["What differs in config and provenance: unheard of, own"]
    assert ["config: seeds", "6", "5"] in settings
    assert ["provenance: device", "not there", "another"] in settings


def test_other_seeds_are_another_sample():
    here = of({"a": [1, 2, 3], "b": [1], "c": [1e308]})
    there = of({"a": [2, 3, 4], "b": [1], "c": [-1e308]}, seeds=[7, 8, 9])
    a, b, c = comparison.compare(here, there)
    assert (a.difference.mean, a.difference.n) == (-1, 0)
    assert a.difference.ci95 == pytest.approx(2**0.5 * summarize([1, 2, 3]).ci95)
    assert not a.seen
    assert (b.difference.mean, b.difference.ci95, b.equal) == (0, None, False), "other seeds"
    assert c.difference is None, "beyond the largest number"


def test_pairs_are_matched_by_coordinate():
    rng = np.random.default_rng(1)
    ours = xr.DataArray(rng.normal(size=(3, 6)), {"kind": ["a", "b", "c"], "seed": range(6)}, ("kind", "seed"))
    theirs = xr.DataArray(rng.normal(size=(7, 2)), {"seed": range(2, 9), "kind": ["c", "b"]}, ("seed", "kind"))
    ours[1, 3:] = np.nan
    mean, ci95, n = (each.sel(kind=["b", "c"]).values for each in paired(ours, theirs))
    oracle = stats.ttest_rel(ours.values[2, 2:], theirs.values[:4, 0]).confidence_interval(0.95)
    assert (mean[1] - ci95[1], mean[1] + ci95[1]) == pytest.approx((oracle.low, oracle.high))
    assert n.tolist() == [1, 4]
    assert np.isnan(ci95[0]), "a single pair has no interval"
    apart = paired(ours, theirs.assign_coords(seed=range(20, 27)))
    assert (apart.n.values.tolist(), np.isnan(apart.mean).all()) == ([0, 0], True)
    with pytest.raises(ValueError, match="need arrays with the axis 'kind'"):
        paired(ours, theirs.isel(kind=0), "kind")


def test_runs_are_matched_by_experiment_preset_axes_and_folder():
    one, other = of({"x": [1]}), of({"x": [1]}, preset="no")
    swept = over({"hidden": ["8", "9"]}, "{hidden}", vary={"hidden": ["8", "9"]})
    ours = {Path("a/p"): one, Path("a/q"): one, Path("a/r"): other, Path("a/s"): swept}
    theirs = {Path("b/z"): one, Path("b/q"): one, Path("b/s"): swept}
    assert comparison.match(ours, theirs) == {
        Path("a/p"): Path("b/z"),
        Path("a/q"): Path("b/q"),
        Path("a/s"): Path("b/s"),
    }


def test_the_command_says_what_it_wrote_and_shows_a_folder_given_twice_once(make, tmp_path, capsys):
    folder = shutil.copytree(make("r", {"a": [1, 2]}), tmp_path / "copies/copy here")
    out = tmp_path / "a folder/page.html"
    assert guard(report, [str(folder), str(folder.parent), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {shlex.quote(str(out))}: 1 record, ")
    assert len(Page(out.read_text("utf-8")).tables[OVERVIEW]) == 2
