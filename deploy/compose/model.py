"""Generates `compose.yaml` and the files of Prometheus and Alertmanager from the fleet's table and the image names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deploy import images, process
from deploy.kubernetes.model import SHAPES, Shape
from deploy.local import fleet, postgres, secured, server_images
from deploy.local.fleet import Spec
from deploy.prometheus import routing
from deploy.prometheus.model import Pace, dump
from shared import secret_files
from shared.settings import Settings

FOLDER: Final = Path(__file__).resolve().parents[1]
"""The folder of `compose.yaml`; paths in the files are relative to it."""
BY: Final = (
    "Written by `python -m deploy.compose` from deploy/compose/model.py and deploy/local/fleet.py: change those."
)
HEAD: Final = f"""{BY}
A whole installation on one host, for docker compose and docker-compose 1.29. See docs/how-to/deploy-with-compose.md.
  python -m deploy.compose secrets                         once: deploy/secrets/
  docker compose --profile core up -d                      broker, database, services, stream views
  docker compose --profile core --profile demo up -d       with a demo marketplace and mail server
  docker compose --profile observability up -d             Prometheus, Alertmanager, Grafana, the status page
  docker compose run --rm operator verify --wait           any command of `goodfaith`
The file .env next to this one may set every setting (docs/reference/settings.md), the image names and the ports."""

CORE, DEMO, OBSERVABILITY, TOOLS = "core", "demo", "observability", "tools"
STANDINS: Final = ("mailbox", "marketplace")
"""The demo's stand-ins for external systems."""
PARTITIONS: Final = "6"
"""Fewer than the usual 24: one host has few cores, and more partitions would only make batches smaller."""
SKEW_MS: Final = "20"
"""Broker and database share the host's clock."""
USUAL: Final = Shape("worker")
PUBLISHED: Final = {"intake-api": 8080, "status": 8085, "marketplace": 8090}
"""Published ports, on loopback only: a TLS proxy belongs in front of them."""
LOGINS: Final = "GOODFAITH_KAFKA_"
"""Prefix of the settings with which processes log in to the broker."""
SECRETS_FOLDER: Final = "${GOODFAITH_SECRETS:-./secrets}"


ANCHORS: Final = ("settings", "process", "started", "migrated")
"""Blocks that many services share: `x-<name>` in compose, an anchor in YAML."""


def compose(counts: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The compose file as plain values, where `*name` stands for `x-name`.

    Args:
        counts: Instances per process or service, as for `goodfaith up --count`. Processes that need a setting are in
            a profile of their own.

    Raises:
        StackError: a name in `counts` that is neither a service nor a process.
    """
    services: dict[str, Any] = {"kafka": _kafka(), "postgres": _postgres(), "migrate": _migrate()}
    for spec, number in _instances(counts):
        services[_host(spec, number)] = _service(spec, number)
    services |= {
        "operator": _operator(),
        "prometheus": _prometheus(),
        "alertmanager": _alertmanager(),
        "grafana": _grafana(),
    }
    used = {secret["source"] for service in services.values() for secret in service.get("secrets", ())}
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    return {
        "x-settings": {**dict.fromkeys(_settable()), **_shared()},
        "x-process": _of_ours(),
        "x-started": _started(),
        "x-migrated": _started() | {"migrate": {"condition": "service_completed_successfully"}},
        "services": services,
        "volumes": {
            name: {} for name in sorted({mount.partition(":")[0] for mount in mounts if mount[0] not in "./$"})
        },
        "secrets": {name: {"file": f"{SECRETS_FOLDER}/{name}"} for name in sorted(used)},
    }


def written(counts: Mapping[str, int] | None = None) -> dict[str, str]:
    """The text of all generated files, by path below `deploy`."""
    text = dump(compose(counts), HEAD)
    for name in ANCHORS:
        text = text.replace(f"\nx-{name}:\n", f"\nx-{name}: &{name}\n")
        text = text.replace(f"'<<': '*{name}'", f"<<: *{name}").replace(f"'*{name}'", f"*{name}")
    alerting = f"{BY}\nNotifies nobody. For examples of receivers see deploy/alertmanager/alertmanager.yml."
    return {
        "compose.yaml": text,
        "compose/targets.yaml": dump(_targets(counts), BY),
        "compose/prometheus.yml": dump(_scraping(), BY),
        "compose/alertmanager.yml": dump(routing.configuration(Pace(1), ""), alerting),
    }


def _instances(counts: Mapping[str, int] | None) -> list[tuple[Spec, int]]:
    # processes that need a setting are included too, each in a profile of its own
    everything = {spec.needs: "yes" for spec in fleet.FLEET if spec.needs}
    return [(spec, number) for spec, count in fleet.expand(counts, everything) for number in range(count)]


def _host(spec: Spec, number: int) -> str:
    return spec.name if number == 0 else f"{spec.name}-{number}"


def _settable() -> list[str]:
    """Settings passed through from .env: all but secrets, broker logins and what this file decides."""
    decided = {key for spec in fleet.FLEET for key in _decided(spec, 0)} | set(_shared())
    names = [
        f"GOODFAITH_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if not secret_files.is_secret(field)
    ]
    return [name for name in names if name not in decided and not name.startswith(LOGINS)]


def _shared() -> dict[str, str]:
    """Settings of all processes that .env may override."""
    values = {
        "GOODFAITH_KAFKA": f"kafka:{server_images.KAFKA_PORT}",
        **process.addresses(),
        "GOODFAITH_PROMETHEUS_URL": "http://prometheus:9090",
        "GOODFAITH_PARTITIONS": PARTITIONS,
        "GOODFAITH_BROKER_SKEW_MS": SKEW_MS,
    }
    return {key: f"${{{key}:-{value}}}" for key, value in values.items()}


def _decided(spec: Spec, number: int) -> dict[str, str]:
    """Settings that .env cannot override."""
    login = {} if spec.principal is None else _login(spec.principal)
    return {
        **login,
        **process.listening(spec),
        "GOODFAITH_SECRETS_DIR": server_images.SECRETS,
        "GOODFAITH_STATE_DIR": process.STATE,
        "GOODFAITH_INSTANCE": f"{spec.name}.{number}",
    }


def _login(principal: str) -> dict[str, str]:
    """Settings with which a process logs in to the broker; the password is a secret."""
    return {
        "GOODFAITH_KAFKA_SECURITY": "sasl_tls",
        "GOODFAITH_KAFKA_CA": f"{server_images.SECRETS}/kafka_ca",
        "GOODFAITH_KAFKA_USER": secured.user(principal),
    }


def _closed(memory: str, pids: int = 200, **more: Any) -> dict[str, Any]:
    """A restricted service: no capabilities, no privileges gained by setuid, a read-only root file system, limits."""
    return {
        "restart": "unless-stopped",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": memory,
        "pids_limit": pids,
        "logging": {"driver": "json-file", "options": {"max-size": "20m", "max-file": "3"}},
        **more,
    }


def _healthy(test: list[str], every_s: int = 10, *, timeout_s: int = 10, start_s: int = 180) -> dict[str, Any]:
    seconds = {"interval": every_s, "timeout": timeout_s, "start_period": start_s}
    return {"test": test, **{key: f"{value}s" for key, value in seconds.items()}, "retries": 5}


def _mounted(secrets: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"source": source, "target": target} for target, source in secrets.items()]


def _kafka() -> dict[str, Any]:
    return {
        "image": images.KAFKA.substitution,
        "profiles": [CORE],
        # compose would expand a single $
        "environment": {
            key: value.replace("$", "$$")
            for key, value in server_images.kafka_environment("kafka", logins=True).items()
        },
        "secrets": _mounted({name: name for name in ("kafka_broker", "kafka_ca")}),
        # checks only that the port answers; the migration waits until topics can be created
        "healthcheck": _healthy(["CMD", "bash", "-c", f"</dev/tcp/127.0.0.1/{server_images.KAFKA_PORT}"], 5),
        "volumes": ["kafka:/var/lib/kafka/data"],
        # the image's start script writes its configuration to the root file system
        **_closed("1g", 400, read_only=False),
        "stop_grace_period": "60s",
    }


def _postgres() -> dict[str, Any]:
    options = [word for key, value in server_images.postgres_options().items() for word in ("-c", f"{key}={value}")]
    return {
        "image": images.POSTGRES.substitution,
        "profiles": [CORE],
        "user": "postgres",
        "command": ["postgres", *options],
        "environment": {
            "POSTGRES_USER": postgres.SUPERUSER,
            "POSTGRES_DB": postgres.DATABASE,
            "POSTGRES_PASSWORD_FILE": f"{server_images.SECRETS}/postgres_password",
            "POSTGRES_INITDB_ARGS": "--auth-host=scram-sha-256 --locale-provider=builtin --locale=C.UTF-8 --encoding=UTF8",
        },
        "secrets": _mounted({"postgres_password": "postgres_password"}),
        "healthcheck": _healthy(
            ["CMD", "pg_isready", "-q", "-U", postgres.SUPERUSER, "-d", postgres.DATABASE, "-h", "127.0.0.1"], 5
        ),
        "volumes": ["postgres:/var/lib/postgresql"],
        "tmpfs": ["/tmp", "/var/run/postgresql"],  # noqa: S108 (in a container)
        "shm_size": "256m",
        **_closed("1g", 400),
        "stop_grace_period": "60s",
    }


def _of_ours() -> dict[str, Any]:
    """What all containers of the project's image share."""
    return {
        "image": images.own().substitution,
        "init": True,
        **_sized(USUAL),
        **_closed(_memory(USUAL), cpus=1.0),
        "stop_grace_period": "30s",
    }


def _started() -> dict[str, Any]:
    return {name: {"condition": "service_healthy"} for name in ("kafka", "postgres")}


def _administers() -> dict[str, str]:
    """The operator's environment: it logs in to the broker by certificate, since it sets the others' passwords."""
    return {
        "<<": "*settings",
        "GOODFAITH_KAFKA": f"${{GOODFAITH_OPERATOR_KAFKA:-kafka:{server_images.OPERATOR_PORT}}}",
        "GOODFAITH_KAFKA_SECURITY": "tls",
        "GOODFAITH_KAFKA_CA": f"{server_images.SECRETS}/kafka_ca",
        "GOODFAITH_KAFKA_CERTIFICATE": f"{server_images.SECRETS}/kafka_operator_certificate",
        "GOODFAITH_KAFKA_KEY": f"{server_images.SECRETS}/kafka_operator_key",
        "GOODFAITH_SECRETS_DIR": server_images.SECRETS,
        "GOODFAITH_STATE_DIR": process.STATE,
    }


OPERATORS_LINK: Final = {name: name for name in ("kafka_ca", "kafka_operator_certificate", "kafka_operator_key")}
"""The secrets with which the operator logs in at the broker."""


def _migrate() -> dict[str, Any]:
    """Creates roles, schemas and topics. Runs once at each start; everything else waits for it."""
    passwords = {f"goodfaith_{role}": f"{role}_password" for role in fleet.ROLES}
    logins = [f"{principal}_kafka_password" for principal in fleet.PRINCIPALS]
    return {
        "<<": "*process",
        "profiles": [CORE],
        "command": ["services.ops.cli", "migrate", "--passwords", server_images.SECRETS],
        "environment": _administers(),
        "secrets": _mounted(
            {"database": "admin_database", **OPERATORS_LINK, **passwords, **{name: name for name in logins}}
        ),
        "depends_on": "*started",
        "healthcheck": {"disable": True},
        "restart": "no",
    }


def _profile(spec: Spec) -> str:
    if spec.name in STANDINS:
        return DEMO
    if spec.name == "status":
        return OBSERVABILITY
    return spec.name if spec.needs is not None else CORE


def _service(spec: Spec, number: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "<<": "*process",
        "profiles": [_profile(spec)],
        "command": process.command(spec),
        "environment": {"<<": "*settings", **_decided(spec, number)},
    }
    if mounted := process.secrets(spec):
        made["secrets"] = _mounted(mounted)
    if spec.role is not None:
        made["depends_on"] = "*migrated"
    if volume := process.KEEPS.get(spec.name):
        # each instance of the stream views keeps its own tables, in a folder named after it
        made["volumes"] = [f"{volume}:{process.STATE}"]
    if number == 0 and (port := PUBLISHED.get(spec.name)):
        variable = f"GOODFAITH_{spec.name.upper().replace('-', '_')}_PORT"
        made["ports"] = [f"127.0.0.1:${{{variable}:-{port}}}:{process.HTTP_PORT}"]
    shape = SHAPES.get(spec.name, USUAL)
    if _memory(shape) != _memory(USUAL):
        made |= _sized(shape) | {"mem_limit": _memory(shape)}
    return made


def _sized(shape: Shape) -> dict[str, Any]:
    return {"tmpfs": [f"/tmp:mode=1777,size={shape.scratch}m"]}  # noqa: S108


def _memory(shape: Shape) -> str:
    """The memory limit: twice the request, as in a cluster, plus the size of /tmp, which is in memory here."""
    return f"{2 * shape.memory + shape.scratch}m"


def _operator() -> dict[str, Any]:
    """The command line with an administrator's access to this installation: `docker compose run --rm operator`."""
    return {
        "<<": "*process",
        "profiles": [TOOLS],
        "entrypoint": ["/opt/goodfaith/bin/python", "-m", "services.ops.cli"],
        "command": ["--help"],
        "environment": _administers(),
        "secrets": _mounted({"database": "admin_database", **OPERATORS_LINK, **{name: name for name in fleet.SECRETS}}),
        "healthcheck": {"disable": True},
        "restart": "no",
        "mem_limit": "1g",
    }


def _prometheus() -> dict[str, Any]:
    return {
        "image": images.PROMETHEUS.substitution,
        "profiles": [OBSERVABILITY],
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=40d",
            "--storage.tsdb.retention.size=8GB",
        ],
        "volumes": [
            "./compose/prometheus.yml:/etc/prometheus/prometheus.yml:ro",
            "./compose/targets.yaml:/etc/prometheus/targets/compose.yaml:ro",
            "./prometheus/rules:/etc/prometheus/rules:ro",
            "prometheus:/prometheus",
        ],
        "ports": ["127.0.0.1:${GOODFAITH_PROMETHEUS_PORT:-9090}:9090"],
        "healthcheck": _healthy(["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9090/-/ready"]),
        **_closed("1g"),
    }


def _alertmanager() -> dict[str, Any]:
    return {
        "image": images.ALERTMANAGER.substitution,
        "profiles": [OBSERVABILITY],
        "command": [
            "--config.file=/etc/alertmanager/alertmanager.yml",
            "--storage.path=/alertmanager",
            "--cluster.listen-address=",
        ],
        "volumes": [
            "${GOODFAITH_ALERTMANAGER_CONFIG:-./compose/alertmanager.yml}:/etc/alertmanager/alertmanager.yml:ro",
            "alertmanager:/alertmanager",
        ],
        "ports": ["127.0.0.1:${GOODFAITH_ALERTMANAGER_PORT:-9094}:9093"],
        "healthcheck": _healthy(["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9093/-/ready"]),
        **_closed("256m"),
    }


def _grafana() -> dict[str, Any]:
    return {
        "image": images.GRAFANA.substitution,
        "profiles": [OBSERVABILITY],
        "environment": {
            "PROMETHEUS_URL": "http://prometheus:9090",
            "GF_SECURITY_ADMIN_PASSWORD__FILE": f"{server_images.SECRETS}/grafana_password",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_USERS_ALLOW_SIGN_UP": "false",
        },
        "secrets": _mounted({"grafana_password": "grafana_password"}),
        "volumes": [
            "./grafana/provisioning/datasources:/etc/grafana/provisioning/datasources:ro",
            "./grafana/provisioning/dashboards:/etc/grafana/provisioning/dashboards:ro",
            "./grafana/dashboards:/var/lib/grafana/dashboards/goodfaith:ro",
            "grafana:/var/lib/grafana",
        ],
        "ports": ["127.0.0.1:${GOODFAITH_GRAFANA_PORT:-3000}:3000"],
        "depends_on": {"prometheus": {"condition": "service_started"}},
        "healthcheck": _healthy(["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:3000/api/health"]),
        **_closed("512m", read_only=False),
    }


def _targets(counts: Mapping[str, int] | None) -> list[dict[str, Any]]:
    """Scrape targets: all processes of the core and observability profiles, labelled as rules and boards expect."""
    return [
        {
            "targets": [f"{_host(spec, number)}:{process.METRICS_PORT}"],
            "labels": {"job": spec.name, "instance": f"{spec.name}.{number}"},
        }
        for spec, number in _instances(counts)
        if _profile(spec) in (CORE, OBSERVABILITY)
    ]


def _scraping() -> dict[str, Any]:
    own = {"prometheus": "prometheus:9090", "alertmanager": "alertmanager:9093"}
    return {
        "global": {"scrape_interval": "15s", "scrape_timeout": "10s", "evaluation_interval": "15s"},
        "rule_files": ["rules/*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [own["alertmanager"]]}]}]},
        "scrape_configs": [
            {"job_name": "goodfaith", "file_sd_configs": [{"files": ["targets/*.yaml"]}]},
            *({"job_name": name, "static_configs": [{"targets": [place]}]} for name, place in own.items()),
        ],
    }
