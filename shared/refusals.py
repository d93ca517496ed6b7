"""What an API or an inbound topic does not accept: one exception for all."""

from __future__ import annotations


class Refused(Exception):
    """A request that cannot be accepted: what is wrong, where, and how to cure it. An API answers it as RFC 9457 says.

    Args:
        status: HTTP status.
        reason: stable code, e.g. ``right_not_owned``.
        field: name of the field that is wrong, if one is.
        retry_after: seconds of business time after which the same request may be accepted (429).
    """

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        field: str | None = None,
        cure: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.status = status
        self.reason = reason
        self.detail = detail
        self.field = field
        self.cure = cure
