"""Kubernetes manifests, generated from the table of processes by `python -m deploy.kubernetes`."""
