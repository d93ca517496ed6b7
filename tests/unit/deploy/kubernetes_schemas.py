"""JSON schemas of what a cluster's API takes, for tests without a cluster: `kubernetes-schemas.json.gz` beside this module.

Written anew by

    python -m tests.unit.deploy.kubernetes_schemas KUBERNETES CRD...

`KUBERNETES` is the folder `kubernetes-json-schema` of the package kubernetes-validate, which has the definitions of all
versions of Kubernetes; each `CRD` is a CustomResourceDefinition as its project releases it. Kept are the kinds of `KINDS`,
without descriptions; a field that no schema names is refused. Not checked are rules in CEL (`x-kubernetes-validations`).
"""

from __future__ import annotations

import functools
import gzip
import ipaddress
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

FILE = Path(__file__).with_name("kubernetes-schemas.json.gz")
OLDEST, NEWEST = "1.30", "1.37"
KINDS = {
    "v1": ("ConfigMap", "Namespace", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment", "StatefulSet"),
    "batch/v1": ("CronJob", "Job"),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "policy/v1": ("PodDisruptionBudget",),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
}
_NOISE = frozenset({"description", "default", "example", "externalDocs", "$id", "$schema"})


@functools.cache
def _stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(FILE.read_bytes()))
    return found


@functools.cache
def _validator(version: str, kind: str) -> jsonschema_rs.Validator | None:
    stored = _stored()
    if kind in stored["custom"]:
        return jsonschema_rs.validator_for(stored["custom"][kind])
    known = stored["kubernetes"][version]
    if kind not in known["kinds"]:
        return None
    return jsonschema_rs.validator_for({"$ref": f"#/$defs/{known['kinds'][kind]}", "$defs": known["$defs"]})


def errors(document: Mapping[str, Any], version: str) -> list[str]:
    """What the API of this version of Kubernetes (`OLDEST` or `NEWEST`) would refuse in a document; of what is unknown, that."""
    kind = f"{document.get('apiVersion')}/{document.get('kind')}"
    validator = _validator(version, kind)
    if validator is None:
        return [f"no schema of {kind}"]
    found = [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(document)]
    if document["kind"] == "NetworkPolicy" and not found:
        found += [error for block in _blocks(document["spec"]) for error in _unfit(block)]
    return found


def _blocks(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every `ipBlock` below a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and "ipBlock" in value:
        yield value["ipBlock"]
    for one in inner:
        yield from _blocks(one)


def _unfit(block: Mapping[str, Any]) -> Iterator[str]:
    """What an API server rejects in an `ipBlock`; the schema calls any text a network."""
    networks = []
    for text in (block["cidr"], *block.get("except", ())):
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            yield f"ipBlock: {error}"
            continue
        networks.append(network)
        if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
            yield f"ipBlock: {text} is an IPv4-mapped IPv6 network"
    for inner in networks[1:]:
        whole = networks[0]
        if inner.version != whole.version or inner == whole or not inner.subnet_of(whole):  # type: ignore[arg-type]
            yield f"ipBlock: {inner} is no strict subset of {whole}"


def _quiet(schema: Any) -> Any:
    """A schema of Kubernetes itself without what is for people."""
    if isinstance(schema, list):
        return [_quiet(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: _quiet(inner) for name, inner in value.items()}
        elif key == "$ref":
            kept[key] = "#" + value.partition("#")[2]
        elif key not in _NOISE and not key.startswith("x-kubernetes-"):
            kept[key] = _quiet(value)
    return kept


def _strict(schema: Any) -> Any:
    """A structural schema of a CRD as JSON Schema that refuses what it does not name."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: _strict(inner) for name, inner in value.items()}
        elif key in ("items", "additionalProperties"):
            kept[key] = _strict(value)
        elif key in ("oneOf", "anyOf", "allOf", "not"):
            kept[key] = value  # says which of the fields go together, not what they are
        elif key not in _NOISE and key != "nullable" and not key.startswith("x-kubernetes-"):
            kept[key] = value
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not open_ended:
        kept["additionalProperties"] = False
    if schema.get("nullable") and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
    return kept


def _refs(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            else:
                yield from _refs(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from _refs(one)


def _of_kubernetes(folder: Path, version: str) -> dict[str, Any]:
    strict = folder / f"v{version}.0-local-strict"
    everything = json.loads((strict / "_definitions.json").read_bytes())["$defs"]
    kinds, defs = {}, {}
    for group, names in KINDS.items():
        for name in names:
            short = "-".join([*group.split("/")[0].split(".")[:1], *group.split("/")[1:]])
            defs[f"{group}.{name}".replace("/", ".")] = _quiet(
                json.loads((strict / f"{name.lower()}-{short}.json").read_bytes())
            )
            kinds[f"{group}/{name}"] = f"{group}.{name}".replace("/", ".")
    waiting = set(_refs(defs))
    while waiting:
        name = waiting.pop()
        if name not in defs:
            defs[name] = _quiet(everything[name])
            waiting |= set(_refs(defs[name]))
    return {"kinds": kinds, "$defs": defs}


def _custom(path: Path) -> dict[str, Any]:
    crd = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec = crd["spec"]
    found = {}
    for version in spec["versions"]:
        schema = _strict(version["schema"]["openAPIV3Schema"])
        # the API server has its own schema of these
        schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
        schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind", "metadata"})
        found[f"{spec['group']}/{version['name']}/{spec['names']['kind']}"] = schema
    return found


def main() -> None:
    """Write the file."""
    folder, *crds = map(Path, sys.argv[1:])
    custom: dict[str, Any] = {}
    for path in crds:
        custom |= _custom(path)
    stored = {
        "kubernetes": {version: _of_kubernetes(folder, version) for version in (OLDEST, NEWEST)},
        "custom": custom,
        "from": sorted(path.stem for path in crds),
    }
    text = json.dumps(stored, separators=(",", ":"), sort_keys=True).encode()
    FILE.write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    main()
