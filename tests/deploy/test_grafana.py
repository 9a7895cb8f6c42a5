"""The dashboard: that Grafana's own schema knows all that it says, and that Prometheus can parse it.

That its queries find data is tested against a running daemon in test_live.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from .expressions import DASHBOARD, DEPLOY, expressions, panels

KINDS = {"stat", "timeseries", "state-timeline"}


def test_shape() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert (dashboard["uid"], dashboard["title"]) == ("mdfeed", "mdfeed")
    assert dashboard["schemaVersion"] >= 36
    assert "id" not in dashboard  # Grafana's own number; a provisioned one must not carry it
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["type"] in KINDS
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(references) == len(set(references))


# Grafana's, but not in the SDK's model of it: what a Prometheus variable and a Prometheus annotation have of their own.
NOT_MODELLED = {"templating/list/definition", "annotations/list/titleFormat", "annotations/list/step"}


def lost(said: Any, kept: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of everything in `said` that `kept` has not, or has otherwise."""
    if isinstance(said, dict) and isinstance(kept, dict):
        for key, value in said.items():
            inside = f"{place}/{key}".lstrip("/")
            if key in kept:
                yield from lost(value, kept[key], inside)
            else:
                yield inside, value
    elif isinstance(said, list) and isinstance(kept, list) and len(said) == len(kept):
        for one, other in zip(said, kept, strict=True):
            yield from lost(one, other, place)
    elif said != kept:
        yield place, said


def through_the_schema(dashboard: dict[str, Any]) -> Any:
    """What Grafana's own SDK makes of a dashboard: it drops what its schema, panel by panel, does not know."""
    model = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="needs grafana-foundation-sdk")
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    plugins.register_default_plugins()
    return json.loads(encoder.JSONEncoder().encode(model.Dashboard.from_json(dashboard)))


def test_grafanas_schema_knows_everything_in_it() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    unknown = dict(lost(dashboard, through_the_schema(dashboard)))
    assert set(unknown) == NOT_MODELLED, unknown


def test_a_misspelt_option_would_be_seen() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panel = next(panel for panel in dashboard["panels"] if panel["type"] == "stat")
    panel["fieldConfig"]["defaults"]["uint"] = "s"
    panel["options"]["colourMode"] = "value"
    panel["targets"][0]["legendFromat"] = "x"
    places = {place for place, _ in lost(dashboard, through_the_schema(dashboard))} - NOT_MODELLED
    assert places == {
        "panels/fieldConfig/defaults/uint",
        "panels/options/colourMode",
        "panels/targets/legendFromat",
    }


def test_panels_do_not_overlap() -> None:
    def cells(panel: dict[str, Any]) -> tuple[range, range]:
        at = panel["gridPos"]
        return range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])

    def meet(one: range, other: range) -> bool:
        return one.start < other.stop and other.start < one.stop

    everything = json.loads(DASHBOARD.read_text())["panels"]
    assert all(cells(panel)[0].stop <= 24 for panel in everything)
    for one, other in combinations(everything, 2):
        (one_x, one_y), (other_x, other_y) = cells(one), cells(other)
        assert not (meet(one_x, other_x) and meet(one_y, other_y)), (one["title"], other["title"])


def test_what_an_operator_asks_is_there() -> None:
    shown = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    for metric in ("book_state", "book_proof", "book_updates", "processing", "receive_to_write", "venue_delay"):
        assert f"mdfeed_{metric}" in shown
    for metric in ("sink_connected", "sink_dropped", "line_connected", "line_reconnects"):
        assert f"mdfeed_{metric}" in shown
    for metric in ("process_cpu_seconds", "process_resident_memory", "mdfeed_event_loop_lag"):
        assert metric in shown


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    listed = [{"record": f"query_{number}", "expr": text} for number, (_, text) in enumerate(expressions())]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": listed}]}))
    command = ["promtool", "check", "rules", "--lint=none", tmp_path / "queries.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_provisioning_names_what_compose_mounts() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/mdfeed.yml").read_text())["providers"][0]
    compose = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
    mounts = [mount.split(":") for mount in compose["services"]["grafana"]["volumes"]]
    assert any(inside.startswith(provider["options"]["path"]) for _, inside, *_ in mounts)
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
