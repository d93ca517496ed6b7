"""Contracts frozen at each release, and compared with what is written and read now."""
