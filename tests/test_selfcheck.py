"""`sublim verify`: what must hold holds, what must fail fails, and a check that went wrong exits with 1."""

import dataclasses
import json

import pytest

from sublim_theory import cli, selfcheck


@pytest.fixture(scope="module")
def rows():
    return list(selfcheck.quick())


def test_every_row_comes_out_as_it_must(rows):
    assert [row.name for row in rows if not row.passed] == []
    assert [row.report.branch for row in rows] == [
        "transfer",
        "transfer",
        "orthogonal",
        "different-initialisation",
        "transfer",
        "transfer",
    ]
    assert [row.report.holds for row in rows] == [not row.control for row in rows]


def test_the_paper_network_transfers_through_its_hidden_layers_alone(rows):
    shares = rows[-1].report.by_layer
    assert shares["class_head"] == shares["auxiliary_head"] == 0.0
    assert shares["hidden_0"] > 0 < shares["hidden_1"]


def test_the_command_prints_a_table_or_json_and_exits_with_0(capsys, monkeypatch, rows):
    monkeypatch.setattr(selfcheck, "quick", lambda: iter(rows))
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["verify"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("passed") == len(rows)
    assert shown.err == ""
    assert cli.main(["verify", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["passed"] is True
    assert [row["name"] for row in record["rows"]] == [row.name for row in rows]


def test_a_failed_check_exits_with_1(capsys, monkeypatch, rows):
    monkeypatch.setattr(selfcheck, "quick", lambda: iter([rows[0], dataclasses.replace(rows[1], passed=False)]))
    assert cli.main(["verify"]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.usefixtures("unchecked")
def test_a_control_that_does_not_fail_is_a_failure(monkeypatch, rows):
    monkeypatch.setattr(selfcheck, "verify_instance", lambda *_, **__: rows[0].report)
    row = selfcheck._must_fail("control", None, reason="first-order law")
    assert not row.passed
    assert "no power" in row.remark


@pytest.mark.usefixtures("unchecked")
def test_a_row_on_the_wrong_branch_or_of_the_wrong_order_is_a_failure(monkeypatch, rows):
    monkeypatch.setattr(selfcheck, "verify_instance", lambda *_, **__: rows[0].report)
    assert not selfcheck._must_hold("row", None, branch="orthogonal").passed
    slow = dataclasses.replace(rows[0].report, remainder_order=1.5)
    monkeypatch.setattr(selfcheck, "verify_instance", lambda *_, **__: slow)
    assert not selfcheck._must_hold("row", None, order=True).passed
