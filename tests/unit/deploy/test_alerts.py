"""Rules, alerts, routes and runbooks: what is committed is what the code makes, and names only what there is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from deploy.local.fleet import FLEET
from deploy.prometheus import areas, figures, rules, worlds
from deploy.prometheus.model import Alert, Pace, dump
from deploy.prometheus.writing import files
from services.ops.cli import build
from shared import metrics

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
ALERTS = rules.alerts()
RECORDS = rules.records()
EVERY = {alert.name: alert for alert in ALERTS}
each_alert = pytest.mark.parametrize("alert", EVERY.values(), ids=EVERY)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: sh deploy/local/setup.sh prometheus"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool is not installed: sh deploy/local/setup.sh prometheus"
)

# of Prometheus itself and of its client
FOREIGN = {
    "ALERTS": {"layer", "area", "page"},
    "up": {"job", "instance"},
    "process_start_time_seconds": {"job", "instance"},
    "prometheus_rule_evaluation_failures_total": {"rule_group"},
}


@cache
def series() -> dict[str, set[str]]:
    """Labels by series: of the code's catalogue, of recording rules, of Prometheus."""
    known = {name: set(labels) for name, labels in FOREIGN.items()}
    for name, (kind, labels) in metrics.catalogue().items():
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            known[name + suffix] = set(labels) | ({"le"} if suffix == "_bucket" else set())
    for rule in RECORDS:
        known.setdefault(rule.name, set()).update(rule.labels)
    return known


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", files(Pace()))
def test_rules_are_those_of_the_code(name: str) -> None:
    """When this fails: python -m deploy.prometheus"""
    assert (DEPLOY / name).read_text(encoding="utf-8") == files(Pace())[name]


def test_no_rule_file_is_left_over() -> None:
    there = {f"prometheus/{path.parent.name}/{path.name}" for path in DEPLOY.glob("prometheus/[rt][ue][ls]*s/*.yaml")}
    assert there == {name for name in files(Pace()) if name.startswith("prometheus/")}


@pytest.mark.parametrize("speed", [1, 2.5, 60, 1000])
def test_what_is_written_is_yaml_of_the_same_meaning(speed: float) -> None:
    pace = Pace(speed)
    for name, those in rules.groups(pace).items():
        plain = {"groups": [group.plain(pace) for group in those]}
        assert yaml.safe_load(dump(plain)) == plain, name


def test_a_fast_clock_divides_wall_time_and_leaves_business_time() -> None:
    fast = {alert.name: alert for alert in rules.alerts(Pace(60))}
    assert "[15s]" in fast["ClaimsStalled"].expr
    assert fast["CanaryOld"].expr.endswith("> 5")
    assert fast["OldestItemOld"].expr.endswith("> 64800")
    assert Pace(60)("15m") == "15s"
    assert Pace(7)("1h") == "8m34s286ms"
    assert Pace(60).interval("15s") == "1s"
    with pytest.raises(ValueError, match="no duration"):
        Pace()("15 min")


@pytest.mark.parametrize("rule", [*RECORDS, *ALERTS], ids=lambda rule: rule.name)
def test_rules_name_series_and_labels_that_there_are(rule: Any) -> None:
    for name, selector in re.findall(r"\b(goodfaith[_:][a-z0-9_:]+)(?:\{([^}]*)\})?", rule.expr):
        assert name in series(), name
        if name.startswith("goodfaith_"):
            for label in re.findall(r"([a-z_]+)\s*[=!]~?", selector):
                assert label in series()[name] | {"job", "instance"}, (name, label)
    labels = {label for those in series().values() for label in those} | {"job", "instance"}
    for grouping in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule.expr):
        for label in filter(None, re.split(r",\s*", grouping)):
            assert label in labels, label


@pytest.mark.parametrize("name", figures.LABELS)
def test_figures_are_summed_over_all_their_labels(name: str) -> None:
    """Else `max` would take one of two series for both."""
    assert series()[name] == {"partition", *figures.LABELS[name]}


def test_required_processes_are_in_the_fleet() -> None:
    assert set(areas.REQUIRED) <= {spec.name for spec in FLEET}
    always = {spec.name for spec in FLEET if spec.needs is None and spec.service not in ("mailbox", "marketplace")}
    assert always <= set(areas.REQUIRED) | {"status"}


@each_alert
def test_an_alert_says_what_it_must(alert: Alert) -> None:
    assert re.fullmatch(r"([A-Z][a-z]+)+", alert.name)
    assert alert.summary
    assert "{{" not in alert.summary
    assert alert.description.endswith(".")
    used = set(re.findall(r"\$labels\.(\w+)", alert.description))
    assert used <= {label for labels in series().values() for label in labels} | {"job", "instance"}
    if alert.severity == "page":
        assert alert.hold or "_over_time" in alert.expr or "Burn" in alert.name, "one bad scrape must not wake anybody"


@each_alert
def test_an_alert_is_tested_both_ways(alert: Alert) -> None:
    tested = [world for content in worlds.tests(Pace()).values() for world in content["tests"]]
    looks = [
        look["exp_alerts"] for world in tested for look in world["alert_rule_test"] if look["alertname"] == alert.name
    ]
    assert any(looks), "a case in which it fires"
    assert alert.name == "Watchdog" or not all(looks), "a case in which it does not"


@needs_promtool
@pytest.mark.parametrize("speed", [1, 60])
def test_prometheus_takes_the_rules(speed: float, tmp_path: Path) -> None:
    for name, text in files(Pace(speed)).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    run("promtool", "check", "rules", *sorted((tmp_path / "prometheus" / "rules").glob("*.yaml")))


@needs_promtool
def test_prometheus_takes_the_configuration() -> None:
    run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")


@needs_promtool
@pytest.mark.parametrize("name", [name for name in files(Pace()) if "/tests/" in name])
def test_alerts_fire_when_they_should_and_only_then(name: str) -> None:
    run("promtool", "test", "rules", DEPLOY / name)


@needs_amtool
def test_alertmanager_takes_the_configuration(tmp_path: Path) -> None:
    for speed in (1, 60):
        path = tmp_path / "alertmanager.yml"
        path.write_text(files(Pace(speed))["alertmanager/alertmanager.yml"], encoding="utf-8")
        run("amtool", "check-config", path)


@needs_amtool
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (EVERY["Watchdog"], "deadman"),
        (EVERY["ClaimsStalled"], "pager"),
        (EVERY["DeadLetters"], "tickets"),
        (EVERY["Aftermath"], "nobody"),
        (EVERY["ReviewQueueOld"], "review"),
        (EVERY["StatementsOld"], "compliance"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_alerts_reach_whom_they_concern(labels: Alert, receiver: str) -> None:
    told = [f"{key}={value}" for key, value in {"alertname": labels.name, **labels.all_labels()}.items()]
    path = DEPLOY / "alertmanager" / "alertmanager.yml"
    run("amtool", "config", "routes", "test", f"--config.file={path}", f"--verify.receivers={receiver}", *told)


def inhibited_by(source: dict[str, str], target: dict[str, str]) -> bool:
    """Whether one alert silences another, by Alertmanager's rule: matchers of both, equal labels, not itself."""

    def matches(labels: dict[str, str], matchers: list[str]) -> bool:
        for matcher in matchers:
            found = re.fullmatch(r'(\w+)(=~|=)"(.*)"', matcher)
            assert found, matcher
            value = labels.get(found[1], "")
            if not (re.fullmatch(found[3], value) if found[2] == "=~" else value == found[3]):
                return False
        return True

    return any(
        matches(source, rule["source_matchers"])
        and matches(target, rule["target_matchers"])
        and not (matches(source, rule["target_matchers"]) and matches(target, rule["source_matchers"]))
        and all(source.get(label, "") == target.get(label, "") for label in rule.get("equal", ()))
        for rule in inhibitions()
    )


@cache
def inhibitions() -> list[dict[str, Any]]:
    configuration = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
    return list(configuration["inhibit_rules"])


def labels_of(name: str, **more: str) -> dict[str, str]:
    return {"alertname": name, **EVERY[name].all_labels(), **more}


@pytest.mark.parametrize("dead", ["BrokerDown", "DatabaseDown"])
def test_a_dead_broker_or_database_mutes_all_that_follows_from_it(dead: str) -> None:
    other = {"BrokerDown", "DatabaseDown", "DatabaseWentBack", "Watchdog", "RulesFail", "Aftermath"}
    if dead == "DatabaseDown":
        other.add("BrokerOfflinePartitions")
    for name in set(EVERY) - other:
        assert inhibited_by(labels_of(dead), {"area": "claims", **labels_of(name)}), name
    for name in other:
        assert not inhibited_by(labels_of(dead), labels_of(name)), name


def test_a_dead_process_mutes_its_own_area_only() -> None:
    dead = labels_of("ProcessDown", job="verification", area="claims")
    assert inhibited_by(dead, labels_of("CanaryOld"))
    assert inhibited_by(dead, labels_of("ConsumerLag", group="verification", area="claims"))
    assert not inhibited_by(dead, labels_of("ConsumerLag", group="enforcement-ledger", area="sellers"))
    assert not inhibited_by(dead, labels_of("ProcessDown", job="streams", area="figures"))
    assert not inhibited_by(
        labels_of("ProcessDown", job="notification-bounces", area="notification-bounces"), labels_of("CanaryOld")
    )


def test_figures_that_stand_mute_what_rests_on_them() -> None:
    behind = labels_of("StreamsBehind", topic="intake.events", partition="3")
    assert inhibited_by(behind, labels_of("ClaimsStalled"))
    assert not inhibited_by(behind, labels_of("CanaryOld"))
    assert not inhibited_by(behind, labels_of("ConsumerLag", group="verification", area="claims"))


def test_a_page_mutes_its_consequences_for_a_while_after_it() -> None:
    after = labels_of("Aftermath", page="ConsumerLag", layer="flow", area="claims")
    assert inhibited_by(after, labels_of("CanaryOld"))
    assert not inhibited_by(after, labels_of("ConsumerLag", area="claims"))


def test_a_burn_that_pages_silences_the_ticket_of_the_same_objective() -> None:
    assert inhibited_by(labels_of("StageBurnFast", slo="recorded"), labels_of("StageBurnSlow", slo="recorded"))
    assert not inhibited_by(labels_of("StageBurnFast", slo="recorded"), labels_of("StageBurnSlow", slo="enforcement"))
    assert not inhibited_by(labels_of("HandledBurnSlow"), labels_of("HandledBurnFast"))


def test_no_secret_stands_in_the_configuration() -> None:
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    assert not re.findall(
        r"(?m)^\s*(?:- )?\w*(?:key|password|secret|token|credentials|api_url)\w*:(?!.*/secrets/)",
        text.replace("credentials_file", "file_"),
    )


def test_every_inhibition_names_alerts_that_there_are() -> None:
    configuration = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
    for rule in configuration["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            found = re.fullmatch(r'(?:alertname|page)=~?"(.*)"', matcher)
            for name in found[1].split("|") if found else ():
                assert any(re.fullmatch(name, known) for known in EVERY), name


# ------------------------------------------------------------------------------------------------------------ runbooks

RUNBOOKS = ROOT / "docs" / "runbooks"
HEADINGS = ["What it means", "What users feel", "Look here", "Do this", "Done when"]
READ_ONLY = {
    "status",
    "top",
    "verify",
    "dlq list",
    "lab canary status",
    "statements list",
    "streams status",
    "message preview",
}
QUERY = re.compile(r"promtool query instant \"\$GOODFAITH_PROMETHEUS_URL\" '([^']+)'")


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def commands_of(text: str) -> list[str]:
    return [
        line.strip()
        for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, flags=re.M | re.S)
        for line in block.splitlines()
    ]


@each_alert
def test_an_alert_has_its_runbook(alert: Alert) -> None:
    text = (RUNBOOKS / f"{alert.name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert.name}\n\n{alert.summary}. Severity *{alert.severity}*, team *{alert.team}*.\n")
    assert re.findall(r"^## (.*)$", text, flags=re.M) == HEADINGS
    assert commands_of(section(text, "Look here"))
    row = f"| [{alert.name}]({alert.name}.md) | {alert.severity} | {alert.team} | {alert.summary} |"
    assert row in (RUNBOOKS / "README.md").read_text(encoding="utf-8").splitlines()


def test_no_runbook_is_left_over() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {*EVERY, "README"}
    listed = re.findall(r"^\| \[(\w+)\]", (RUNBOOKS / "README.md").read_text(encoding="utf-8"), flags=re.M)
    assert listed == list(EVERY)


@each_alert
def test_commands_of_a_runbook_can_be_run(alert: Alert) -> None:
    text = (RUNBOOKS / f"{alert.name}.md").read_text(encoding="utf-8")
    looking = commands_of(section(text, "Look here"))
    for command in commands_of(text):
        # what waits for an answer asks the same programs
        words = shlex.split(re.sub(r'^until \[ "\$\((.*)\)" = .*$', r"\1", command))
        assert words[0] in ("goodfaith", "promtool", "amtool"), command
        if words[0] == "goodfaith":
            name = parsed(words[1:])
            assert command not in looking or name in READ_ONLY, f"{command} is not for looking"
    for query in QUERY.findall(text):
        for name, selector in re.findall(r"\b(goodfaith[_:][a-z0-9_:]+)(?:\{([^}]*)\})?", query):
            assert name in series(), name
            for label in re.findall(r"([a-z_]+)\s*[=!]~?", selector) if name.startswith("goodfaith_") else ():
                assert label in series()[name] | {"job", "instance"}, (name, label)


@cache
def command_line() -> Any:
    return get_command(build())


def parsed(words: list[str]) -> str:
    """The name of a command of ours; its options and arguments are taken as the command line takes them."""
    command = command_line()
    name: list[str] = []
    while commands := getattr(command, "commands", None):
        assert words[0] in commands, words
        name.append(words[0])
        command, words = commands[words[0]], words[1:]
    command.make_context(name[-1], list(words))
    return " ".join(name)


@needs_promtool
def test_queries_of_runbooks_are_queries(tmp_path: Path) -> None:
    queries = [
        query for path in sorted(RUNBOOKS.glob("*.md")) for query in QUERY.findall(path.read_text(encoding="utf-8"))
    ]
    group = {
        "name": "runbooks",
        "rules": [{"record": f"runbook:{n}", "expr": query} for n, query in enumerate(queries)],
    }
    (tmp_path / "queries.yaml").write_text(dump({"groups": [group]}), encoding="utf-8")
    run("promtool", "check", "rules", tmp_path / "queries.yaml")
