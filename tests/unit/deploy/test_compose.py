"""The compose file: committed as generated, valid for both composes, complete, and closed."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import ssl
import stat
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pydantic import SecretStr

from deploy import images, process
from deploy.compose import model, secrets
from deploy.compose.__main__ import main
from deploy.local.fleet import CALLERS, FLEET, KEPT, PRINCIPALS, ROLES, Spec, source
from services.ops.migrate import read_broker_passwords, read_passwords
from shared import access, callers
from shared.failures import CommandError
from shared.settings import Settings

HERE = Path(__file__).parent
EVERYWHERE = "0.0.0.0"  # noqa: S104 (within a container)
each_process = pytest.mark.parametrize("spec", FLEET, ids=lambda spec: spec.name)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: sh deploy/local/setup.sh prometheus"
)


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((model.FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document()["services"]
    return found


def resolved(value: str) -> str:
    """What compose makes of `${NAME:-default}` where nothing is set."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)


@pytest.mark.parametrize(
    "name", ["compose.yaml", "compose/targets.yaml", "compose/prometheus.yml", "compose/alertmanager.yml"]
)
def test_committed_files_are_fresh(name: str) -> None:
    assert (model.FOLDER / name).read_text(encoding="utf-8") == model.written()[name], "run: python -m deploy.compose"


@pytest.mark.parametrize("schema", ["compose-spec.schema.json", "compose-spec-1.29.schema.json"])
def test_both_composes_take_it(schema: str) -> None:
    """By the schemas of compose-go 2.16 (the plugin) and of docker-compose 1.29.2, without descriptions."""
    validator = jsonschema_rs.validator_for(json.loads((HERE / schema).read_bytes()))
    # the old schema has dates of RFC 3339 only where a format is checked, and compose itself expands variables first
    assert [f"{'/'.join(map(str, e.instance_path))}: {e.message}" for e in validator.iter_errors(document())] == []


def test_services_are_the_fleet_and_what_it_stands_on() -> None:
    others = {"kafka", "postgres", "migrate", "operator", "prometheus", "alertmanager", "grafana"}
    assert set(services()) == {spec.name for spec in FLEET} | others
    assert {services()[name]["image"] for name in ("kafka", "postgres", "prometheus", "alertmanager", "grafana")} == {
        image.substitution for image in images.PUBLIC if image is not images.PYTHON
    }
    profiles = {profile for service in services().values() for profile in service["profiles"]}
    assert {"core", "demo", "observability", "tools"} <= profiles


@each_process
def test_a_process_has_its_own_secrets_and_no_others(spec: Spec) -> None:
    mounted = {one["target"]: one["source"] for one in services()[spec.name].get("secrets", [])}
    wanted = {name: source(spec, name) for name in spec.secrets} | (
        {"database": f"{spec.role}_database"} if spec.role else {}
    )
    if spec.principal:
        wanted |= {"kafka_ca": "kafka_ca", "kafka_password": f"{spec.principal}_kafka_password"}
    assert mounted == wanted
    assert services()[spec.name]["command"][0] == spec.command[0]


@each_process
def test_what_a_process_is_told_are_settings_and_right_ones(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in services()[spec.name]["environment"].items():
        if value is not None:
            monkeypatch.setenv(key, resolved(value))
    monkeypatch.delenv("GOODFAITH_SECRETS_DIR")
    if spec.principal:
        monkeypatch.setenv("GOODFAITH_KAFKA_PASSWORD", "p" * 16)
    settings = Settings()
    assert settings.kafka == "kafka:9092"
    if spec.principal:
        assert (settings.kafka_security, settings.kafka_user) == ("sasl_tls", access.login(settings, spec.principal))
    assert settings.metrics_port == process.METRICS_PORT
    assert settings.instance == f"{spec.name}.0"
    assert settings.intake_url == "http://intake-api:8080"
    own = {
        "intake-api": settings.http_host,
        "mailbox": settings.smtp_host,
        "notification-bounces": settings.bounce_host,
    }
    assert own.get(spec.name, EVERYWHERE) == EVERYWHERE


def test_every_setting_can_be_set_and_no_secret_is_in_the_environment() -> None:
    known = {f"GOODFAITH_{name.upper()}": field for name, field in Settings.model_fields.items()}
    told = services()["intake-api"]["environment"]
    secret = {name for name, field in known.items() if "SecretStr" in str(field.annotation)}
    assert not secret & set(told)
    assert {name for name in set(known) - secret if not name.startswith(model.LOGINS)} <= set(told)
    assert SecretStr not in {type(value) for value in told.values()}


def test_containers_may_do_little() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert service["read_only"] or name in ("kafka", "grafana"), name
        assert "privileged" not in service
        assert not [mount for mount in service.get("volumes", []) if "docker.sock" in mount]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network"


def test_nothing_starts_before_what_it_needs() -> None:
    for spec in FLEET:
        depends = services()[spec.name].get("depends_on", {})
        assert (depends.get("migrate") == {"condition": "service_completed_successfully"}) is (spec.role is not None)
    for name in services()["migrate"]["depends_on"]:
        assert "healthcheck" in services()[name]


def test_what_is_mounted_is_there_and_what_is_named_is_declared() -> None:
    for name, service in services().items():
        for mount in service.get("volumes", []):
            source = resolved(mount).partition(":")[0]
            if source.startswith("."):
                assert (model.FOLDER / source).exists(), f"{name}: {source}"
            else:
                assert source in document()["volumes"], f"{name}: {source}"
        assert {one["source"] for one in service.get("secrets", [])} <= set(document()["secrets"])


def test_prometheus_looks_at_every_process_that_runs() -> None:
    targets = yaml.safe_load((model.FOLDER / "compose" / "targets.yaml").read_text(encoding="utf-8"))
    seen = {one["labels"]["job"]: one for one in targets}
    assert set(seen) == {
        spec.name for spec in FLEET if set(services()[spec.name]["profiles"]) <= {"core", "observability"}
    }
    assert seen["verification"] == {
        "targets": ["verification:9100"],
        "labels": {"job": "verification", "instance": "verification.0"},
    }


def test_more_of_a_process_are_services_of_their_own() -> None:
    files = model.written({"verification": 2, **{spec.service: 1 for spec in FLEET if spec.service != "verification"}})
    found = yaml.safe_load(files["compose.yaml"])["services"]
    assert found["verification-1"]["environment"]["GOODFAITH_INSTANCE"] == "verification.1"
    assert "verification-1:9100" in files["compose/targets.yaml"]
    with pytest.raises(CommandError, match="nobody"):
        model.written({"nobody": 2})


@needs_promtool
def test_prometheus_and_alertmanager_take_their_files(tmp_path: Path) -> None:
    for name, text in model.written().items():
        place = tmp_path / ("targets/compose.yaml" if name.endswith("targets.yaml") else Path(name).name)
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    shutil.copytree(model.FOLDER / "prometheus" / "rules", tmp_path / "rules")
    for command in (["promtool", "check", "config", "prometheus.yml"], ["amtool", "check-config", "alertmanager.yml"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_secrets_are_made_once_and_are_all_that_the_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = secrets.write(folder)
    assert set(made) == set(document()["secrets"])
    assert set(made) == {path.name for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    values = {name: (folder / name).read_text() for name in made}
    assert len({values[name] for name in KEPT}) == len(KEPT)
    assert secrets.write(folder) == []
    (folder / "contact_key").unlink()
    assert secrets.write(folder) == ["contact_key"]
    assert (folder / "contact_key").read_text() != values["contact_key"]
    assert (folder / "intake_database").read_text() == values["intake_database"]


def test_secrets_fit_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    secrets.write(folder)
    mounted = tmp_path / "run"
    mounted.mkdir()
    for one in services()["migrate"]["secrets"]:
        shutil.copy(folder / one["source"], mounted / one["target"])
    for one in services()["intake-api"]["secrets"]:
        shutil.copy(folder / one["source"], mounted / one["target"])
    assert "intake-api" not in (mounted / "internal_token").read_text()
    known = SecretStr((mounted / "internal_callers").read_text())
    for caller, kept in CALLERS.items():
        given = f"Bearer {(folder / kept).read_text()}"
        for api, answered in callers.ANSWERS.items():
            assert callers.Callers(known, api).who(given) == (caller if caller in answered else None)
    for one in services()["migrate"]["secrets"]:
        shutil.copy(folder / one["source"], mounted / one["target"])
    assert read_broker_passwords(Settings(), mounted) == {
        name: (folder / f"{name}_kafka_password").read_text() for name in PRINCIPALS
    }
    passwords = read_passwords(mounted)
    assert set(passwords) == set(ROLES)
    for role, password in passwords.items():
        assert (
            folder / f"{role}_database"
        ).read_text() == f"postgresql://goodfaith_{role}:{password}@postgres:5432/goodfaith"


def test_the_broker_lets_in_only_who_logs_in() -> None:
    told = services()["kafka"]["environment"]
    speaks = dict(pair.split(":") for pair in told["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    open_to_others = [one for one in told["KAFKA_LISTENERS"].split(",") if "127.0.0.1" not in one]
    assert [(one.partition(":")[0], speaks[one.partition(":")[0]]) for one in open_to_others] == [
        ("CLIENTS", "SASL_SSL"),
        ("CERTIFICATES", "SSL"),
    ]
    assert told["KAFKA_LISTENER_NAME_CERTIFICATES_SSL_CLIENT_AUTH"] == "required"
    assert told["KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND"] == "false"
    assert told["KAFKA_SUPER_USERS"] == f"User:broker;User:{access.login(Settings(), 'operator')}"


def test_certificates_of_the_broker_are_made_together_and_who_vouches_for_them_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    secrets.write(folder)
    (folder / "kafka_operator_key").unlink()
    assert secrets.write(folder) == list(secrets.LINKS)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=folder / "kafka_ca")
    server.load_cert_chain(folder / "kafka_broker")
    server.load_verify_locations(folder / "kafka_ca")
    server.verify_mode = ssl.CERT_REQUIRED
    client.load_cert_chain(folder / "kafka_operator_certificate", folder / "kafka_operator_key")
    there, back = (ssl.MemoryBIO() for _ in range(2))
    ends = client.wrap_bio(back, there, server_hostname="kafka"), server.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[1].getpeercert()["subject"] == ((("commonName", access.login(Settings(), "operator")),),)  # type: ignore[index]
    keys = [path for path in folder.iterdir() if "PRIVATE KEY" in path.read_text()]
    assert {path.name for path in keys} == {"kafka_broker", "kafka_operator_key"}


def test_a_folder_of_secrets_that_others_may_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(CommandError, match=f"chmod 700 {tmp_path}"):
        secrets.write(tmp_path)
    assert main(["secrets", str(tmp_path)]) == 2


@pytest.mark.parametrize("wrong", ["short", "two\nlines of it", "x" * 1001])
def test_a_password_that_is_none_is_refused_by_its_files_name(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "goodfaith_intake").write_text(wrong)
    with pytest.raises(CommandError, match="goodfaith_intake: a password has"):
        read_passwords(tmp_path)


def test_a_folder_without_passwords_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="holds files named goodfaith_"):
        read_passwords(tmp_path)
