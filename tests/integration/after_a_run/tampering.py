"""What these modules tamper with, as SQL."""

ITEM = "(select min(item) from verification.items where state = 'UPHELD_BY_DEFAULT')"
SANCTION = "(select min(sanction) from enforcement.sanctions where state = 'in_force' and measures <> '')"
SANCTIONED = f"(select seller from enforcement.sanctions where sanction = {SANCTION})"


def body(item: str, change: str) -> str:
    """SQL that changes an item's stored state."""
    return f"update verification.items set body = ({change})::text where item = {item}"
