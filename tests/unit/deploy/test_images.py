"""Images: named once, pinned, and stand-ins that keep to the public ones' conventions."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from deploy import images, process
from deploy.containers import trial
from deploy.local import jars, kafka, postgres, server_images
from deploy.local.children import StackError
from deploy.local.fleet import FLEET

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "deploy" / "images" / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("image", images.PUBLIC, ids=lambda image: image.name)
def test_a_default_is_a_version_and_the_environment_names_another(
    image: images.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(image.variable, raising=False)
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+[a-z0-9.-]*", image.default)
    assert image.reference == image.default
    monkeypatch.setenv(image.variable, "registry.example/other@sha256:00")
    assert image.reference == "registry.example/other@sha256:00"
    assert image.substitution == f"${{{image.variable}:-{image.default}}}"


def test_local_stacks_and_images_run_the_same_versions() -> None:
    assert images.KAFKA.default == f"apache/kafka:{jars.KAFKA_VERSION}"
    said = subprocess.run([postgres.binaries() / "postgres", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.split()[-1] == images.POSTGRES.default.rpartition(":")[2]


def test_the_image_is_built_on_the_named_base_and_runs_as_nobody_in_particular() -> None:
    assert f"ARG BASE={images.PYTHON.default}\n" in DOCKERFILE
    assert f"\nUSER {process.USER}:{process.USER}\n" in DOCKERFILE
    assert f"GOODFAITH_STATE_DIR={process.STATE}" in DOCKERFILE
    assert f"GOODFAITH_METRICS_PORT={process.METRICS_PORT}" in DOCKERFILE
    assert "://" not in DOCKERFILE, "no address of an index: build arguments say it"


def test_every_dependency_is_installed_by_its_hash() -> None:
    installs = re.findall(r"pip install ([^&]*)", DOCKERFILE)
    assert installs
    for words in installs:
        assert "--require-hashes" in words or ("--no-deps" in words and "--no-build-isolation" in words), words


def test_neither_secrets_nor_state_reach_a_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*", "what is not named stays out"
    allowed = [line for line in lines if line.startswith("!")]
    assert {"deploy/secrets", "deploy/.env"} <= set(lines[lines.index(allowed[-1]) :]), "the last word counts"
    assert not [line for line in allowed if "tests" in line or line in ("!.local", "!.git")]


def test_stand_ins_read_what_the_public_images_read(tmp_path: Path) -> None:
    """The script of Kafka's stand-in, with a `java` that only notes what it was called with."""
    home, bin_ = tmp_path / "kafka", tmp_path / "bin"
    (home / "config").mkdir(parents=True)
    bin_.mkdir()
    java = bin_ / "java"
    java.write_text(f'#!/bin/bash\nprintf "%s\\n" "$*" >> {tmp_path}/calls\n')
    java.chmod(stat.S_IRWXU)
    variables = server_images.kafka_environment("kafka") | {"KAFKA_SOME___ODD__NAME_OF": "a=b c"}
    script = ROOT / "deploy" / "images" / "debian" / "kafka-run"
    subprocess.run([script, home], env={"PATH": f"{bin_}:{os.environ['PATH']}", **variables}, check=True)
    written = dict(line.split("=", 1) for line in (home / "config" / "server.properties").read_text().splitlines())
    wanted = kafka.PROPERTIES.splitlines()
    assert set(written) == {line.partition("=")[0] for line in wanted if line and line[0] != "#"} | {"some-odd_name.of"}
    assert written["listeners"].startswith("CLIENTS://:9092,"), "for all, the others on loopback"
    assert written["listeners"].count("127.0.0.1") == 2
    assert written["advertised.listeners"].startswith("CLIENTS://kafka:9092,")
    asks = server_images.kafka_environment("kafka", logins=True)
    assert asks["KAFKA_ADVERTISED_LISTENERS"].startswith(
        "CLIENTS://kafka:9092,CERTIFICATES://kafka:9095,PEERS://127.0.0.1"
    )
    assert asks["KAFKA_SSL_KEYSTORE_LOCATION"] == "/run/secrets/kafka_broker"
    assert written["transaction.state.log.num.partitions"] == "2"
    assert written["some-odd_name.of"] == "a=b c"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split("kafka.")[-1].split()[0] for call in calls] == ["tools.StorageTool", "Kafka"]
    assert variables["CLUSTER_ID"] in calls[0]
    assert "-Xmx512m" in calls[1]


def test_a_stand_in_without_a_cluster_id_says_so(tmp_path: Path) -> None:
    script = ROOT / "deploy" / "images" / "debian" / "kafka-run"
    done = subprocess.run([script, tmp_path], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode
    assert "CLUSTER_ID" in done.stderr


def test_a_servers_options_are_those_of_a_local_server() -> None:
    options = server_images.postgres_options()
    assert options["synchronous_commit"] == options["fsync"] == "on"
    assert options["log_line_prefix"] == "%m [%p] %u ", "quotes are the file's, blanks are not"
    assert not {"port", "listen_addresses", "unix_socket_directories"} & set(options)


def test_every_process_is_reached_where_the_settings_say() -> None:
    found = process.addresses(lambda name: f"{name}.internal")
    for spec in FLEET:
        if spec.port in (None, "status"):
            continue
        assert found[f"GOODFAITH_{spec.port.upper()}_URL"] == f"http://{spec.name}.internal:{process.HTTP_PORT}"
        assert process.serves(spec)["http"] == process.HTTP_PORT
    assert found["GOODFAITH_SMTP_HOST"] == "mailbox.internal"


def test_a_result_is_found_though_compose_has_the_last_word() -> None:
    assert trial.last_object('{"no": 1}\n{"items": 3}\n Container goodfaith-trial-operator-run  Removed\n') == {
        "items": 3
    }
    with pytest.raises(StackError, match="it broke"):
        trial.last_object("it broke\n")
