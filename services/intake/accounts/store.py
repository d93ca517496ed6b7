"""Tables of account states and of the codes that confirm e-mail addresses."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final, get_args

import msgspec
import sqlalchemy as sa

from services.intake.accounts import domain as accounts
from services.intake.accounts.domain import Challenge
from services.intake.accounts.tables import account_changes
from services.intake.evidence import store as evidence_store
from services.intake.kernel import domain, outbox, requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.ids import new_id
from services.intake.kernel.refusals import not_found
from services.intake.kernel.store import wall_ms
from services.intake.misuse import store as misuse_store
from services.intake.review import store as review_store
from shared import clock, policy
from shared.refusals import Refused

_CHALLENGE: Final = "notice, digest, expires_at, tries, requested_at, requests, since"


def change_status(
    connection: sa.Connection, id: str, status: domain.Status, code: str | None, me: Account, partitions: int
) -> None:
    """Suspend, resume or close an account. Its open claims stay.

    Raises:
        Refused: 404, or the change is not allowed.
    """
    now, wall = clock.read(connection)
    # before locking the row: wait for a running judgement of the account instead of deadlocking with it
    misuse_store.judge_soon(connection, id)
    before = connection.exec_driver_sql("select status from accounts where id = %s for update", (id,)).scalar()
    if before is None:
        raise not_found()
    accounts.check_change(before, status, own=id == me.id)
    if before == status:
        return
    connection.exec_driver_sql("update accounts set status = %s where id = %s", (status, id))
    note(connection, id, status, me.id, now, code)
    told = {"open": "account_resumed"}.get(status, f"account_{status}")
    figures = {} if code is None else {"code": code}
    outbox.publish_accounts(connection, [outbox.notice(id, told, None, now, wall, **figures)], partitions)


def note(
    connection: sa.Connection,
    id: str,
    kind: str,
    by: str,
    at: dt.datetime,
    code: str | None = None,
    documents: Sequence[str] = (),
    seen: str | None = None,
) -> None:
    """Add an entry to an account's history; ``documents`` and ``seen``: what a verification rests on."""
    connection.execute(
        sa.insert(account_changes).values(
            account=id, kind=kind, by=by, at=at, code=code, documents=list(documents) or None, seen=seen
        )
    )


def history(connection: sa.Connection, id: str, limit: int = 100) -> list[store.Row]:
    """An account's history, latest first."""
    rows = connection.exec_driver_sql(
        """select kind, by, at, code, documents, seen from account_changes
        where account = %s order by id desc limit %s""",
        (id, limit),
    )
    return [dict(row) for row in rows.mappings()]


_IN_STATE: Final = {
    "applied": "a.status = 'open' and not a.identity_verified and a.email_confirmed_at is null",
    "email_confirmed": "a.status = 'open' and not a.identity_verified and a.email_confirmed_at is not null",
    "verified": "a.status = 'open' and a.identity_verified",
    "suspended": "a.status = 'suspended'",
    "closed": "a.status = 'closed'",
}
"""``domain.state_of`` in SQL."""


def list_accounts(
    connection: sa.Connection, state: domain.AccountState | None, after: str, limit: int
) -> list[store.Row]:
    """Accounts by id, with their states."""
    rows = connection.exec_driver_sql(
        f"""{store.ACCOUNT_ROW} where a.id > %s and {"true" if state is None else _IN_STATE[state]} order by a.id limit %s""",
        (after, limit),
    )
    return [store.with_state(dict(row)) for row in rows.mappings()]


def verify(
    connection: sa.Connection, id: str, verified: bool, body: requests.Verify, me: Account, partitions: int
) -> None:
    """Record a reviewer's verdict on an account's identity. The history keeps both verdicts, and what they rest on.

    Raises:
        Refused: 404; 403, a conflict of interest; 422, it rests on nothing.
    """
    review_store.check_unbiased(connection, me, id)
    # before locking the row: wait for a running judgement of the account instead of deadlocking with it
    misuse_store.judge_soon(connection, id)
    before = connection.exec_driver_sql(
        "select identity_verified from accounts where id = %s for update", (id,)
    ).scalar()
    if before is None:
        raise not_found()
    if verified:
        accounts.check_verified(body.documents, body.seen, evidence_store.lock_named(connection, id))
    rests: dict[str, Any] = {"documents": body.documents, "seen": body.seen}
    if before != verified:
        _verify(connection, id, verified, me.id, partitions, code=None if verified else body.code, **rests)
    elif verified:
        # under another name, perhaps: what a verdict rests on counts from then on
        now, _ = clock.read(connection)
        note(connection, id, "verified", me.id, now, **rests)


def _verify(connection: sa.Connection, id: str, verified: bool, by: str, partitions: int, **rests: Any) -> None:
    """Set or withdraw a verification. The account counts as registered even after its verification is withdrawn."""
    now, wall = clock.read(connection)
    connection.exec_driver_sql(
        "update accounts set identity_verified = %s, registered = registered or %s where id = %s",
        (verified, verified, id),
    )
    note(connection, id, "verified" if verified else "verification_withdrawn", by, now, **rests)
    if verified:
        outbox.publish_accounts(connection, [outbox.notice(id, "account_verified", None, now, wall)], partitions)


def verify_by_rule(connection: sa.Connection, id: str, rules: policy.Accounts, partitions: int) -> bool:
    """Verify the account if the policy's rule says so. Returns whether it did."""
    if not rules.verify_when:
        return False
    row = connection.exec_driver_sql(
        """select a.identity_verified, a.status, a.email_confirmed_at is not null as email_confirmed, a.kind = 'company' as company,
            exists (select from contacts c where c.account = a.id) as contact,
            exists (select from rights r where r.owner = a.id and r.status = 'active' and r.register is not null) as right_registered
        from accounts a where a.id = %s and a.role = 'holder' for update""",
        (id,),
    ).one_or_none()
    if row is None or row.identity_verified or row.status != "open":
        return False
    facts = [fact for fact in get_args(accounts.Fact) if getattr(row, fact)]
    if not accounts.satisfied(rules.verify_when, facts):
        return False
    _verify(connection, id, True, "rule", partitions)
    misuse_store.judge_soon(connection, id)
    return True


# --------------------------------------------------------------------------------------------------- the code by e-mail


def _challenge(connection: sa.Connection, account: str) -> Challenge | None:
    row = connection.exec_driver_sql(
        f"select {_CHALLENGE} from email_codes where account = %s for update", (account,)
    ).one_or_none()
    if row is None:
        return None
    return Challenge(**{**row._mapping, "digest": None if row.digest is None else bytes(row.digest)})


def request_code(connection: sa.Connection, account: str, rules: policy.Accounts, partitions: int) -> dt.datetime:
    """Request a code for the address on file. Returns when another one may be requested.

    The code itself is made when the message is sent (``codes``); only the request is stored here.

    Raises:
        Refused: no address, confirmed already, or too often.
    """
    now, wall = clock.read(connection)
    row = connection.exec_driver_sql(
        """select email_confirmed_at is not null as confirmed, exists (select from contacts c where c.account = a.id) as contact
        from accounts a where id = %s for update""",
        (account,),
    ).one()
    if not row.contact:
        raise Refused(422, "no_contact", "There is no address on file.", cure="Give one: PUT /v1/contact.")
    if row.confirmed:
        raise Refused(422, "confirmed_already", "The address on file is confirmed.", cure="Nothing to do.")
    made = accounts.requested(
        _challenge(connection, account),
        new_id("n", wall_ms(wall)),
        now,
        pause=rules.code_pause.exact,
        a_day=rules.codes_a_day,
    )
    connection.exec_driver_sql(
        f"""insert into email_codes (account, {_CHALLENGE}) values (%s, %s, %s, %s, %s, %s, %s, %s)
        on conflict (account) do update set notice = excluded.notice, digest = null, expires_at = null, tries = 0,
            requested_at = excluded.requested_at, requests = excluded.requests, since = excluded.since""",
        (account, made.notice, None, None, 0, made.requested_at, made.requests, made.since),
    )
    told = outbox.notice(account, "email_code", None, now, wall, minutes=int(rules.code.exact.total_seconds() // 60))
    outbox.publish_accounts(connection, [msgspec.structs.replace(told, notice=made.notice)], partitions)
    return now + rules.code_pause.exact


def codes(connection: sa.Connection, notices: Iterable[str], rules: policy.Accounts) -> dict[str, str]:
    """Make new codes by notice, for sending messages. Each voids the previous one; only digests are stored."""
    now, _ = clock.read(connection)
    made = {notice: accounts.new_code() for notice in sorted(set(notices))}
    rows = connection.exec_driver_sql(
        """update email_codes as c set digest = n.digest, expires_at = %s
        from unnest(%s::text[], %s::bytea[]) as n(notice, digest) where c.notice = n.notice returning c.notice""",
        (now + rules.code.exact, list(made), [accounts.code_digest(notice, code) for notice, code in made.items()]),
    )
    return {notice: made[notice] for (notice,) in rows}


def confirm(
    connection: sa.Connection, account: str, code: str, rules: policy.Accounts, partitions: int
) -> Refused | None:
    """Confirm the address on file. A refusal is returned, not raised, so that the try is still counted."""
    now, _ = clock.read(connection)
    challenge = _challenge(connection, account)
    refused = accounts.check_code(challenge, code, now, rules.code_tries)
    if refused is not None:
        connection.exec_driver_sql("update email_codes set tries = tries + 1 where account = %s", (account,))
        return refused
    connection.exec_driver_sql("delete from email_codes where account = %s", (account,))
    connection.exec_driver_sql("update accounts set email_confirmed_at = %s where id = %s", (now, account))
    note(connection, account, "email_confirmed", account, now)
    verify_by_rule(connection, account, rules, partitions)
    return None


def confirmed(connection: sa.Connection, ids: Iterable[str]) -> set[str]:
    """The accounts whose address on file is confirmed."""
    rows = connection.exec_driver_sql(
        "select id from accounts where id = any(%s) and email_confirmed_at is not null", (sorted(set(ids)),)
    )
    return set(rows.scalars())


def lock_seller(connection: sa.Connection, account: str) -> None:
    """Lock a seller's account, so that the marketplace's feed does not replace what it sets itself in the meantime."""
    connection.exec_driver_sql("select from accounts where id = %s and role = 'seller' for no key update", (account,))


def addresses(connection: sa.Connection, ids: Iterable[str]) -> list[tuple[str, bytes, bytes, bool]]:
    """(account, wrapped key, sealed contact, whether its address is confirmed), of one moment."""
    rows = connection.exec_driver_sql(
        """select c.account, k.wrapped, c.sealed, a.email_confirmed_at is not null from contacts c
        join subject_keys k using (account) join accounts a on a.id = c.account where c.account = any(%s)""",
        (sorted(set(ids)),),
    )
    return [(account, bytes(wrapped), bytes(sealed), confirmed) for account, wrapped, sealed, confirmed in rows]


def unowned(connection: sa.Connection, ids: Iterable[str]) -> list[str]:
    """Those of the accounts whose inbox nobody owns.

    There is no such account, it is closed, or nobody has ever used it: no contact but the marketplace's, no confirmed
    address, no webhook, and no message was ever read. The canary looks after its own.
    """
    rows = connection.exec_driver_sql(
        """select n.id from unnest(%s::text[]) as n(id) where not exists (
            select from accounts a where a.id = n.id and a.status <> 'closed' and (a.canary
                or exists (select from contacts c where c.account = a.id
                    and (not c.fed or a.email_confirmed_at is not null))
                or exists (select from webhooks w where w.account = a.id and w.status = 'enabled'
                    and not exists (select from webhook_challenges c where c.webhook = w.id))
                or exists (select from messages m where m.party = a.id and m.read_at is not null)))""",
        (sorted(set(ids)),),
    )
    return list(rows.scalars())


def attest(connection: sa.Connection, account: str, by: str) -> None:
    """Confirm, on the word of staff, that the address on file is the account's.

    Raises:
        Refused: 404; 422, there is no address.
    """
    now, _ = clock.read(connection)
    store.existing(connection, account)
    changed = connection.exec_driver_sql(
        """update accounts a set email_confirmed_at = %s where id = %s and email_confirmed_at is null
        and exists (select from contacts c where c.account = a.id)""",
        (now, account),
    ).rowcount
    if changed:
        note(connection, account, "email_confirmed", by, now)
    elif not confirmed(connection, [account]):
        raise Refused(
            422,
            "no_contact",
            "There is no address on file.",
            field="email_confirmed",
            cure="Have the party give one first.",
        )


def unconfirm(connection: sa.Connection, account: str) -> None:
    """Mark the address on file as unconfirmed after it changed or was erased, and void any code under way."""
    connection.exec_driver_sql("update accounts set email_confirmed_at = null where id = %s", (account,))
    connection.exec_driver_sql(
        "update email_codes set notice = '', digest = null, expires_at = null where account = %s", (account,)
    )
