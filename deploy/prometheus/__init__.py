"""Recording rules, alerts and their tests as code: `python -m deploy.prometheus` writes what Prometheus loads."""
