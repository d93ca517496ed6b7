"""Enforcement, the executioner: holds and listing actions (by listing), penalty ledgers and sanctions (by seller).

`worker`  reads verification.events and marketplace.receipts; writes enforcement.events (a hold took effect), marketplace.commands
          (suspend, restore) and enforcement.violations (re-keyed by seller).
`ledger`  reads enforcement.violations, marketplace.sellers (keys), marketplace.seller_receipts and intake.accounts (lifts); writes
          enforcement.ledger (entries, standings, sanctions) and marketplace.seller_commands.
`entities` counts where accounts stand together that are one business, and tells `ledger` by a table.
`delivery` with the HTTP adapter only: takes commands to the marketplace and brings receipts back.
`api`     answers intake what the tables say of sellers: standings, entries, sanctions (internal; by bearer token).
`statements` takes statements of reasons to the EU's transparency database, where a policy asks for them.
"""
