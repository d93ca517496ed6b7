"""Goodfaith in containers: what a process is given there, an engine for tests, and the trial of images and compose file."""
