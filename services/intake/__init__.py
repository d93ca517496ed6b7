"""Context door: accounts, contacts, rights, claims and commands; splits a claim into items; read model of their states.

Reads: verification.events, notification.events, and each upstream's inbound topic.
Writes: intake.events (items, commands, watermarks; keyed by listing), intake.accounts (what accounts are told), intake.filings
(accepted claims; both keyed by account), inbound.refusals.

Processes: ``api`` (the HTTP door), ``worker`` (admission and read model), ``inbound`` (the upstreams' door).
"""
