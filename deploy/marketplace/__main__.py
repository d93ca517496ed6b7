"""``python -m deploy.marketplace``: worker and HTTP in one process."""

from __future__ import annotations

from deploy.marketplace import api
from deploy.marketplace.worker import Marketplace
from shared import logs, runtime, sealing, tracing
from shared.settings import Settings


def main() -> None:
    """Run until SIGTERM."""
    settings = Settings.at_start()
    logs.configure(settings, "marketplace")
    tracing.configure(settings, "marketplace")
    private = settings.centre_private_key
    centre_key = None if private is None else sealing.private_key("centre_private_key", private.get_secret_value())
    server = api.serve(settings)
    runtime.run(Marketplace(centre_key), settings)
    server.should_exit = True


if __name__ == "__main__":
    main()
