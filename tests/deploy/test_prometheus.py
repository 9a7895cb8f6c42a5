"""Scrape configuration, rules, alerts and Alertmanager example, judged by promtool and amtool themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from .expressions import DEPLOY, EXPORTED, PROMETHEUS, expressions, names_in, recorded, rules

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
needs_amtool = pytest.mark.skipif(not shutil.which("amtool"), reason="needs amtool (Debian: prometheus-alertmanager)")
ALERTMANAGER = DEPLOY / "alertmanager/alertmanager.yml"


def accept(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_config_is_valid() -> None:
    accept("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


@needs_promtool
def test_rules_are_valid() -> None:
    accept("promtool", "check", "rules", PROMETHEUS / "rules.yml", PROMETHEUS / "alerts.yml")


@needs_promtool
def test_alerts_fire_and_stay_quiet() -> None:
    accept("promtool", "test", "rules", PROMETHEUS / "alerts_test.yml")


@needs_promtool
def test_the_test_of_the_alerts_can_fail(tmp_path: Path) -> None:
    for file in ("rules.yml", "alerts_test.yml"):
        shutil.copy(PROMETHEUS / file, tmp_path)
    alerts = (PROMETHEUS / "alerts.yml").read_text()
    blunted = alerts.replace('expr: up{job="mdfeed"} == 0', 'expr: up{job="mdfeed"} == 7')
    assert blunted != alerts
    (tmp_path / "alerts.yml").write_text(blunted)
    done = subprocess.run(["promtool", "test", "rules", tmp_path / "alerts_test.yml"], capture_output=True, check=False)
    assert done.returncode != 0


def test_every_alert_is_tested_firing_and_quiet() -> None:
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    checks = [(case["name"], check) for case in cases for check in case["alert_rule_test"]]
    for alert in (rule["alert"] for rule in rules("alerts.yml")):
        own = [(case, check) for case, check in checks if check["alertname"] == alert]
        assert any(check.get("exp_alerts") for _, check in own), f"{alert} never fires in a test"
        quiet = [case for case, check in own if not check.get("exp_alerts")]
        assert len(quiet) >= 2, f"{alert} must be shown quiet on a healthy daemon and early in its own trouble"


def test_every_alert_says_who_what_and_where_to_read_on() -> None:
    runbook = (DEPLOY / "README.md").read_text()
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
        assert re.search(rf"^\| `{rule['alert']}` \|", runbook, re.MULTILINE), (
            f"{rule['alert']} is not in deploy/README.md"
        )


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_every_expression_names_what_exists(place: str, expression: str) -> None:
    names = names_in(expression)
    assert names, f"{place} names no metric"
    assert names <= EXPORTED | recorded() | {"up"}, place


@needs_amtool
def test_alertmanager_example_is_valid() -> None:
    accept("amtool", "check-config", ALERTMANAGER)


@needs_amtool
@pytest.mark.parametrize(("severity", "receiver"), [("page", "on-call"), ("ticket", "tickets")])
def test_alerts_reach_their_receiver(severity: str, receiver: str) -> None:
    route = ["amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}"]
    assert accept(*route).strip() == receiver


def test_inhibitions_name_alerts_that_exist() -> None:
    alerts = {rule["alert"] for rule in rules("alerts.yml")}
    named = set(re.findall(r"\bMdfeed\w+", ALERTMANAGER.read_text()))
    assert named <= alerts, named - alerts
