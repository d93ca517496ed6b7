"""Enforcement: holds and listing actions (by listing), penalty ledgers and sanctions (by seller).

`worker`: reads verification.events and marketplace.receipts; writes enforcement.events (a hold took effect),
    marketplace.commands (suspend, restore) and enforcement.violations (re-keyed by seller).
`ledger`: reads enforcement.violations, marketplace.sellers (keys), marketplace.seller_receipts and intake.accounts
    (lifts); writes enforcement.ledger (entries, standings, sanctions) and marketplace.seller_commands.
`entities`: counts the joint standing of accounts that are one business, and passes it to `ledger` by a table.
`delivery`: with the HTTP adapter only, delivers commands to the marketplace and brings back receipts.
`api`: tells intake about sellers: standings, entries, sanctions (internal; by bearer token).
`statements`: sends statements of reasons to the EU's transparency database, if a policy asks for them.
"""
