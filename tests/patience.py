"""How long tests wait for what should come soon."""

from __future__ import annotations

from typing import Final

PATIENCE_S: Final = 150.0
"""Longest wait for what takes seconds: a busy machine may be twenty times slower, and that is no failure of the code."""
