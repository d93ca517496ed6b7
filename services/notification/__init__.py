"""Notification: sends messages to the parties and publishes when each was sent, because windows begin only then.

It reads ``verification.events``, ``intake.accounts`` and the sanctions in ``enforcement.ledger``, and asks intake for
contacts and codes at sending time. It writes to ``notification.events``:

- ``NoticeSent``, one per item of a message that starts a window, and ``MessageSent``, one per message about a claim,
  both keyed by listing;
- ``AccountTold``, one per message to an account about itself, keyed by account.

Processes: ``worker`` collects what to tell and publishes what was sent; ``sender`` closes, renders and mails
messages; ``webhooks`` calls the parties' webhooks; ``bounces`` receives mail servers' delivery reports; ``api``
answers intake.
"""
