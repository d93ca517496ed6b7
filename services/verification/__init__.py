"""Verification: judges every item through its life cycle, with its deadlines, duplicates and near copies.

Reads ``intake.events`` (submissions, commands, watermarks), ``notification.events`` (when notices were sent),
``enforcement.events`` (that holds took effect) and ``marketplace.listings``, all keyed by listing.
Writes ``verification.events``, and look-ups of unknown listings to ``marketplace.commands``.
"""
