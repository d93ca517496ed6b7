"""Columns and types that the declarations of tables share (docs/decisions/0066)."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Text
from sqlalchemy.types import UserDefinedType

ID: Final = Text(collation="C")
"""Text that is compared byte by byte: ids."""
TIME: Final = DateTime(timezone=True)


class XID8(UserDefinedType[str]):
    """A transaction's id."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


def required(name: str, *args: Any, **options: Any) -> Column[Any]:
    """A column that is not null."""
    return Column(name, *args, nullable=False, **options)


def identity() -> Column[int]:
    """A primary key ``id`` that the database numbers."""
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def one_of(name: str, *values: str, nullable: bool = False, **options: Any) -> Column[Any]:
    """A column of text with one of the values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return Column(name, Text, CheckConstraint(f"{name} in ({listed})"), nullable=nullable, **options)
