"""Versioned policies and working-day calendars, as TOML; read by ``shared.policy`` and ``shared.calendars``."""
