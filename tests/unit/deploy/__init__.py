"""Unit tests of deploy/: no processes but promtool, no network."""
