"""The dashboard and the alert rules use metrics and labels that the service has."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from app.runtime import metrics
from tests.house.documents import ROOT, text_of

ALERTS: Final = ROOT / "deploy" / "alerts.yaml"
DASHBOARD: Final = ROOT / "deploy" / "grafana-dashboard.json"
# Labels that Prometheus or its scrape configuration adds.
ADDED_LABELS: Final = {"instance", "job", "le"}
SUFFIXES: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}


def labels_by_name() -> dict[str, set[str]]:
    """Return the labels of every series of the service."""
    families = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    return {
        f"{each._name}{suffix}": set(each._labelnames)
        for each in families
        for suffix in SUFFIXES[str(each._type)]
    }


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(text_of(ALERTS))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text_of(DASHBOARD))["panels"]
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


@pytest.mark.parametrize("expression", [*dict.fromkeys(expressions())])
def test_an_expression_uses_existing_metrics_and_labels(expression: str) -> None:
    known = labels_by_name()
    names = set(re.findall(r"\binventory_\w+", expression))
    assert names <= known.keys()
    assert names or expression.startswith("up{")
    used = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        used |= {label.strip() for label in group.split(",")}
    allowed = {label for name in names for label in known[name]} | ADDED_LABELS
    assert used <= allowed
    assert expression.count("(") == expression.count(")")
    # Only the rate of a counter or of a histogram means something.
    for name in names:
        grows = name.endswith(("_total", "_bucket", "_sum", "_count"))
        assert grows is bool(re.search(rf"(?:rate|increase)\({name}\b", expression))


def test_every_metric_has_a_panel_and_a_line_in_the_documentation() -> None:
    shown = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    page = text_of(ROOT / "docs" / "operations.md")
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in labels_by_name()}
    assert [name for name in families if name not in shown] == []
    assert [name for name in families if f"`{name}`" not in page] == []


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) > 5
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[mh]", rule["for"])


def test_the_dashboard_has_a_place_for_every_panel() -> None:
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()}
    assert len(places) == len({panel["id"] for panel in panels()}) == len(panels())
    variables = {each["name"] for each in json.loads(text_of(DASHBOARD))["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", text_of(DASHBOARD)))
    assert used - {"__rate_interval", "__all"} == variables


def test_prometheus_accepts_the_alert_rules(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian's package `prometheus` brings it")
    recorded = tmp_path / "panels.yaml"
    panel_rules = [
        {"record": f"panel_{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(expressions())
    ]
    recorded.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panel_rules}]}))
    for file in (ALERTS, recorded):
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
