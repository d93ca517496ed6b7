"""``python -m deploy.marketplace``: worker and HTTP in one process."""

from __future__ import annotations

from deploy.marketplace import api
from deploy.marketplace.worker import Marketplace
from shared import logs, runtime, tracing
from shared.settings import Settings


def main() -> None:
    """Run until SIGTERM."""
    settings = Settings.at_start()
    logs.configure(settings, "marketplace")
    tracing.configure(settings, "marketplace")
    server = api.serve(settings)
    runtime.run(Marketplace(), settings)
    server.should_exit = True


if __name__ == "__main__":
    main()
