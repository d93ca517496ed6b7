"""Notification, the messenger: tells the parties, and says when it did, for only then does a window begin.

Reads ``verification.events``, ``intake.accounts`` and of ``enforcement.ledger`` the sanctions; writes ``notification.events``: ``NoticeSent`` for each item told of
in a message that starts a window, ``MessageSent`` for each message about a claim, both keyed by listing, and ``AccountTold``
for each message to an account about itself, keyed by account. Asks intake for contacts and codes, at sending time.

Its processes: ``worker`` collects what is to be told and publishes what was sent; ``sender`` closes, renders and mails;
``webhooks`` calls parties' webhooks;
``bounces`` takes the mail servers' reports of what became of it; ``api`` tells intake's front.
"""
