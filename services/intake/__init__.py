"""Front door: accounts, contacts, rights, claims and commands; splits a claim into items; read model of their states.

Reads: verification.events, notification.events, and each upstream's inbound topic.
Writes: intake.events (items, commands, watermarks; keyed by listing), inbound.refusals.

Processes: ``api`` (the HTTP door), ``worker`` (admission and read model), ``inbound`` (the upstreams' door).
"""
