"""Every PromQL expression that the project ships, with its place; and the names that they may use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
DASHBOARD = DEPLOY / "grafana/mdfeed.json"

# CONTRACT.md 6, as Prometheus stores it; the quantiles are the gauges that it asks for beside the histograms.
_EXPORTED = """
mdfeed_line_connected mdfeed_line_reconnects_total mdfeed_frames_total mdfeed_frame_bytes_total
mdfeed_decode_errors_total mdfeed_book_updates_total mdfeed_book_state mdfeed_book_proof_total mdfeed_book_levels
mdfeed_book_resyncs_total mdfeed_trades_total mdfeed_last_update_age_seconds mdfeed_processing_seconds_bucket
mdfeed_processing_seconds_count mdfeed_processing_quantile_seconds mdfeed_receive_to_write_seconds_bucket
mdfeed_receive_to_write_seconds_count mdfeed_receive_to_write_quantile_seconds mdfeed_venue_delay_seconds
mdfeed_clock_offset_seconds mdfeed_sink_published_total mdfeed_sink_dropped_total mdfeed_sink_connected
mdfeed_sink_buffer_bytes mdfeed_rest_weight_used mdfeed_rest_weight_limit mdfeed_rest_blocked_seconds
mdfeed_backfill_trades_total mdfeed_day_error_ratio mdfeed_memory_bytes mdfeed_snapshots_total
mdfeed_event_loop_lag_seconds mdfeed_task_faults_total mdfeed_build_info
process_start_time_seconds process_resident_memory_bytes process_cpu_seconds_total process_open_fds
"""
EXPORTED = frozenset(_EXPORTED.split())


def rules(file: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / file).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def recorded() -> frozenset[str]:
    return frozenset(rule["record"] for rule in rules("rules.yml"))


def filled_in(expression: str) -> str:
    """With Grafana's variables replaced as Grafana would, all instances and symbols chosen."""
    for variable, value in (("$__rate_interval", "1m"), ("$instance", ".*"), ("$symbol", ".*")):
        expression = expression.replace(variable, value)
    return expression


def expressions() -> Iterator[tuple[str, str]]:
    """(place, PromQL) of every rule, alert, panel, variable and annotation."""
    for file in ("rules.yml", "alerts.yml"):
        for rule in rules(file):
            yield f"{file}: {rule.get('record') or rule['alert']}", rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']!r} {target['refId']}", filled_in(target["expr"])
    dashboard = json.loads(DASHBOARD.read_text())
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), \w+\)", variable["definition"])
            assert found, variable
            yield f"variable {variable['name']}", filled_in(found[1])
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", filled_in(annotation["expr"])


def names_in(expression: str) -> set[str]:
    """Metric names in an expression: identifiers with our prefixes, label matchers and strings aside."""
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"", " ", expression)
    return set(re.findall(r"\b(?:mdfeed_|process_|instance:|symbol:)[\w:]+|\bup\b", bare))
