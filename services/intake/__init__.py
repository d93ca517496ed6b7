"""Intake: accounts, contacts, rights, claims and commands. Splits claims into items and keeps their read model.

Reads: verification.events, notification.events, and each upstream's inbound topic.
Writes: intake.events (items, commands, watermarks; keyed by listing), intake.accounts (events about accounts) and
intake.filings (accepted claims), both keyed by account, and inbound.refusals.

Processes: ``api`` (public HTTP API), ``worker`` (admission, watermarks, read model), ``inbound`` (upstreams' topics),
``registers`` (asks registers for rights), ``pictures`` (compares pictures of listings and rights).
"""
