"""Which documents are in which file below `deploy/kubernetes`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from deploy.kubernetes import manifests, monitoring, network, scaling, users
from deploy.kubernetes.manifests import IMAGE, NAMESPACE, Document
from deploy.kubernetes.model import BASE, OPTIONAL, PROCESSES
from deploy.prometheus.model import RUNBOOKS, Pace, dump
from shared.settings import Settings

BY: Final = "Written by `python -m deploy.kubernetes`: change deploy/kubernetes/{}, or what an overlay changes."
GENERATED: Final = ("base", "components")
"""Folders in which nothing is written by hand."""

KEPT: Final = {
    "argocd.argoproj.io/sync-options": "PruneLast=true",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}
"""Annotations of settings: the previous version's are needed until its last process has ended, as its containers may
restart until then.
"""


def _file(documents: Iterable[Document], source: str) -> str:
    # the comment once, at the head
    return f"# {BY.format(source)}\n" + "---\n".join(dump(document) for document in documents)


def _settings(values: Mapping[str, str], source: str) -> str:
    return f"# {BY.format(source)}\n" + "".join(f"{name}={value}\n" for name, value in values.items())


def files(runbooks: str = RUNBOOKS) -> dict[str, str]:
    """All generated files, by path below `deploy/kubernetes`."""
    written = {
        "base/namespace.yaml": _file([manifests.namespace()], "manifests.py"),
        "base/accounts.yaml": _file(manifests.accounts(), "manifests.py"),
        "base/network.yaml": _file(network.policies(), "network.py"),
        "base/migrate.yaml": _file([manifests.migration()], "manifests.py"),
        "base/settings.env": _settings(manifests.addresses(), "manifests.py"),
        "base/kafka.env": _settings(manifests.links(), "manifests.py"),
        **{f"base/{process.name}.yaml": _file(manifests.of(process), "model.py") for process in BASE},
    }
    resources = [path.removeprefix("base/") for path in written if path.endswith(".yaml")]
    base = manifests.kustomization(
        resources,
        namespace=NAMESPACE,
        configMapGenerator=[
            {
                "name": name,
                "envs": [file],
                "options": {
                    "labels": {"app.kubernetes.io/name": "goodfaith", **manifests.FIRST},
                    "annotations": manifests.wave("needed") | KEPT,
                },
            }
            for name, file in ((manifests.SETTINGS, "settings.env"), (manifests.KAFKA, "kafka.env"))
        ],
        images=[{"name": IMAGE, "newTag": "unset"}],
    )
    written["base/kustomization.yaml"] = _file([base], "writing.py")

    for process in PROCESSES:
        if process.name in OPTIONAL:
            folder = f"components/{process.name}"
            written[f"{folder}/{process.name}.yaml"] = _file(manifests.of(process), "model.py")
            written[f"{folder}/kustomization.yaml"] = _file(
                [manifests.component([f"{process.name}.yaml"])], "writing.py"
            )

    for name, job in (("verify", manifests.verification()), ("prune", manifests.pruning())):
        written[f"components/{name}/{name}.yaml"] = _file([job], "manifests.py")
        written[f"components/{name}/kustomization.yaml"] = _file([manifests.component([f"{name}.yaml"])], "writing.py")
    written["components/passwords/kustomization.yaml"] = _file(
        [
            manifests.component(
                (), patches=[{"target": {"kind": "Job", "name": "migrate"}, "patch": manifests.passwords()}]
            )
        ],
        "manifests.py",
    )
    written["components/other-logins/kustomization.yaml"] = _file(
        [manifests.component((), patches=list(manifests.other_logins()))], "manifests.py"
    )
    written["components/autoscaling/autoscaling.yaml"] = _file(scaling.documents(), "scaling.py")
    written["components/autoscaling/kustomization.yaml"] = _file(
        [manifests.component(["autoscaling.yaml"])], "writing.py"
    )
    written["components/monitoring/targets.yaml"] = _file([monitoring.targets()], "monitoring.py")
    written["components/monitoring/rules.yaml"] = _file(
        monitoring.rules(Pace(runbooks=runbooks)), "monitoring.py (and deploy/prometheus)"
    )
    written["components/monitoring/kustomization.yaml"] = _file(
        [manifests.component(["targets.yaml", "rules.yaml"])], "writing.py"
    )
    written["examples/kafka/users.yaml"] = _file(
        users.users(Settings.model_construct()),
        "users.py (and shared/access.py)",
    )
    return written
