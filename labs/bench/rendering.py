"""Messages a second that one core renders as text, HTML and e-mail. Prints JSON.

python -m labs.bench.rendering [seconds per kind]
"""

from __future__ import annotations

import json
import sys
import time

from services.notification.preview import CONTACTS, NOW, SELLER, preview
from services.notification.render import mail
from shared.languages import LANGUAGES

KINDS = ("claim_receipt", "seller_notice", "counter_forwarded", "outcome", "account.right_expiring")


def rate(kind: str, locale: str, items: int, seconds: float) -> float:
    """Messages per second of CPU time."""
    made, began = 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        shown = preview(kind, locale=locale, items=items)
        mail(shown, id=f"m-{made}", sender="ip@market.example", to=CONTACTS[SELLER], at=NOW)
        made += 1
    return made / spent


def main() -> None:
    """Run the benchmark from the command line."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    for kind in KINDS:
        for locale in LANGUAGES:
            preview(kind, locale=locale)  # compiles
    found = {
        f"{kind} {locale} {items}": round(rate(kind, locale, items, seconds))
        for kind in KINDS
        for locale in LANGUAGES
        for items in ((1, 10) if not kind.startswith("account.") else (1,))
    }
    mean = len(found) / sum(1 / value for value in found.values())
    sys.stdout.write(json.dumps({"messages_per_s": found, "mean": round(mean), "least": min(found.values())}) + "\n")


if __name__ == "__main__":
    main()
