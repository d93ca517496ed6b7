"""Stream views for people and alerts, folded from the services' topics with Faust.

The services' tables remain the source of truth. Reads intake.events, intake.accounts, intake.filings,
verification.events, notification.events, enforcement.events, enforcement.violations and enforcement.ledger. Writes
only the changelogs of its own tables. A view can be rebuilt from the topics at any time.
"""
