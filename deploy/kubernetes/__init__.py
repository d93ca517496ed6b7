"""Manifests for Kubernetes: what is generated from the table of processes, and how (`python -m deploy.kubernetes`)."""
