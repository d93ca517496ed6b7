"""Verification, the judge: the life cycle of every item, deadlines, duplicates.

Reads ``intake.events`` (submissions, commands, watermarks), ``notification.events`` (when notices were sent),
``enforcement.events`` (that holds are in place) and ``marketplace.listings``; all keyed by listing.
Writes ``verification.events``, and look-ups of unknown listings to ``marketplace.commands``.
"""
