"""Views for people and alarms, folded from the services' topics with Faust. Never the truth: that is the services' tables.

Reads intake.events, intake.accounts, intake.filings, verification.events, notification.events, enforcement.events,
enforcement.violations and enforcement.ledger; writes no topic but the changelogs of its own tables. A view can be built anew from the topics at any time.
"""
