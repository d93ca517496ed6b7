"""Grafana's JSON, written from the boards that are declared in `services/observer/boards`."""
