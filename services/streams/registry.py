"""The list of all views."""

from __future__ import annotations

from typing import Final

from services.streams import accounts, filings, items, sellers
from services.streams.views import View

VIEWS: Final[tuple[View, ...]] = (items.VIEW, sellers.VIOLATIONS, sellers.STANDINGS, accounts.VIEW, filings.VIEW)
BY_NAME: Final = {view.name: view for view in VIEWS}
