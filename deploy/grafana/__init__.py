"""Grafana dashboards, generated as JSON from the boards declared in `services/observer/boards`."""
