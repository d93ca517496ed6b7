"""Goodfaith in containers: a process's environment, an engine for tests, and the trial of images and compose file."""
