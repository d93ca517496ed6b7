"""Planning topics and ACLs: brought about once, nothing is left to do; nothing that is planned loses anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ops.broker import topic_plan
from services.ops.broker.topic_plan import (
    ALLOWANCES,
    IN_SYNC,
    POLICY,
    RETENTION,
    Cluster,
    Configure,
    Create,
    Declared,
    Found,
    Grow,
    Spread,
    after,
    declared,
    plan,
)
from shared import access
from shared.access import Acl
from shared.settings import Settings
from shared.topics import DAY_MS

SETTINGS = Settings(partitions=6, replication=1, upstreams={"crm": "acc-1"}, topic_prefix="eu.")
WANTED = declared(SETTINGS)
PLAIN = "eu.verification.events"
LETTERS = "eu.dead-letters"


def whole(wanted: Declared = WANTED, brokers: tuple[int, ...] = (1, 2, 3)) -> Cluster:
    """A cluster on which everything is as declared."""
    empty = Cluster(brokers, {}, frozenset())
    return after(empty, plan(wanted, empty))


def changed(name: str = PLAIN, **values: object) -> Cluster:
    cluster = whole()
    return replace(cluster, topics={**cluster.topics, name: replace(cluster.topics[name], **values)})  # type: ignore[arg-type]


def configured(config: str, value: str, name: str = PLAIN) -> Cluster:
    return changed(name, configs={**whole().topics[name].configs, config: value})


def test_an_empty_broker_gets_everything_and_then_nothing_is_left() -> None:
    made = plan(WANTED, Cluster((1,), {}, frozenset()))
    assert {change.topic for change in made.changes if isinstance(change, Create)} == set(WANTED.topics)
    assert not made.refusals
    assert plan(WANTED, whole()) == topic_plan.Plan()


def test_partitions_are_neither_taken_away_nor_added_where_keys_would_move() -> None:
    for count, says in ((8, "cannot be removed"), (4, "lose their order")):
        made = plan(WANTED, changed(replicas=((1,),) * count))
        assert not made.changes
        assert says in str(made.refusals[0])
        assert f"set GOODFAITH_PARTITIONS={count}" in str(made.refusals[0])


def test_partitions_are_added_where_no_order_hangs_on_them() -> None:
    made = plan(WANTED, changed(LETTERS, replicas=((1,),) * 4))
    assert made == topic_plan.Plan(changes=(Grow(LETTERS, 4, 6),))


def test_longer_retention_is_set_and_shorter_only_when_allowed() -> None:
    longer = plan(WANTED, configured(RETENTION, str(7 * DAY_MS)))
    assert longer.changes == (Configure(PLAIN, {RETENTION: str(7 * DAY_MS)}, {RETENTION: str(30 * DAY_MS)}),)
    for now in (str(60 * DAY_MS), "-1"):
        cluster = configured(RETENTION, now)
        assert "--allow shorter-retention" in str(plan(WANTED, cluster).refusals[0])
        assert not plan(WANTED, cluster).changes
        assert plan(WANTED, cluster, frozenset({"shorter-retention"})).changes


def test_what_somebody_has_not_read_is_not_let_go_whatever_is_allowed() -> None:
    cluster = configured(RETENTION, "-1")
    unread = replace(cluster.topics[PLAIN], unread_ms=31 * DAY_MS)
    made = plan(WANTED, replace(cluster, topics={**cluster.topics, PLAIN: unread}), frozenset(ALLOWANCES))
    assert not made.changes
    assert "oldest unread record is 31 days old; let its readers catch up first" in str(made.refusals[0])
    assert made.refusals[0].allowance is None


@pytest.mark.parametrize(
    ("name", "now"), [(PLAIN, "compact"), ("eu.marketplace.listings", "delete"), (PLAIN, "compact,delete")]
)
def test_how_a_topic_is_kept_is_never_changed(name: str, now: str) -> None:
    made = plan(WANTED, configured(POLICY, now, name), frozenset(ALLOWANCES))
    assert not made.changes
    assert "create a new topic" in str(made.refusals[0])


def test_replicas_are_added_evenly_and_never_taken_away() -> None:
    three = declared(SETTINGS.model_copy(update={"replication": 3}))
    made = plan(three, changed())
    spread = next(change for change in made.changes if isinstance(change, Spread))
    assert {frozenset(replicas) for replicas in spread.replicas.values()} == {frozenset({1, 2, 3})}
    assert all(replicas[0] == 1 for replicas in spread.replicas.values())
    safe = [change for change in made.changes if isinstance(change, Configure)]
    assert {change.after[IN_SYNC] for change in safe} == {"2"}
    assert not made.refusals
    back = plan(WANTED, whole(three))
    assert not back.changes
    assert all("fewer are less safe" in refusal.what for refusal in back.refusals)


def test_no_more_replicas_than_brokers() -> None:
    three = declared(SETTINGS.model_copy(update={"replication": 3}))
    made = plan(three, Cluster((1, 2), {}, frozenset()))
    assert not [change for change in made.changes if isinstance(change, Create)]
    assert "2 brokers are alive" in str(made.refusals[0])


def test_topics_that_nobody_declares_are_told_of_and_left() -> None:
    cluster = whole()
    more = {
        "eu.inbound.gone": Found(((1,),), {}),
        "eu.streams-1-views-changelog": Found(((1,),), {}),
        "other": Found(((1,),), {}),
    }
    made = plan(WANTED, replace(cluster, topics={**cluster.topics, **more}))
    assert not made.changes
    assert [note.split()[0] for note in made.notes] == ["eu.inbound.gone"]


def test_permissions_of_ours_are_taken_away_and_those_of_others_told_of() -> None:
    stale = Acl("User:goodfaith-upstream.gone", "topic", "eu.inbound.gone", False, "WRITE")
    wide = Acl("User:goodfaith-other.intake", "topic", PLAIN, False, "WRITE")
    foreign = Acl("User:analytics", "topic", "eu.verif", True, "READ")
    elsewhere = Acl("User:analytics", "topic", "orders", False, "READ")
    cluster = whole()
    assert cluster.acls is not None
    made = plan(WANTED, replace(cluster, acls=cluster.acls | {stale, wide, foreign, elsewhere}))
    assert set(made.changes) == {topic_plan.Forbid(stale), topic_plan.Forbid(wide)}
    assert made.notes == ("User:analytics READ topic eu.verif* is of another principal and is left as it is",)


@pytest.mark.parametrize(("mine", "other"), [("", "b."), ("b.", ""), ("a.", "b."), ("eu.", "eu.2.")])
def test_two_installations_on_one_broker_leave_each_others_permissions(mine: str, other: str) -> None:
    both = [
        declared(SETTINGS.model_copy(update={"topic_prefix": prefix, "upstreams": {"crm": "acc-1"}}))
        for prefix in (mine, other)
    ]
    there = Cluster((1, 2, 3), {}, both[0].acls | both[1].acls)
    for wanted in both:
        made = plan(wanted, there)
        assert not [change for change in made.changes if isinstance(change, topic_plan.Forbid)]
        assert any("another installation's" in note for note in made.notes)


def test_a_broker_that_asks_nobody_who_he_is() -> None:
    made = plan(WANTED, replace(whole(), acls=None))
    assert not made.changes
    assert "every client may do everything" in made.notes[0]


def test_nobody_is_shut_out_in_between() -> None:
    cluster = whole()
    assert cluster.acls is not None
    one = min(cluster.acls)
    wide = replace(one, name="eu.", prefixed=True)
    made = plan(WANTED, replace(cluster, acls=(cluster.acls - {one}) | {wide}))
    assert made.changes == (topic_plan.Allow(one), topic_plan.Forbid(wide))


# ------------------------------------------------------------------------------------------------------------- properties

NAMES = sorted(WANTED.topics)
brokers = st.lists(st.integers(1, 6), min_size=1, max_size=5, unique=True).map(lambda found: tuple(sorted(found)))
settings_ = st.builds(
    lambda partitions, replication: SETTINGS.model_copy(update={"partitions": partitions, "replication": replication}),
    st.integers(1, 8),
    st.integers(1, 4),
)
configs = st.fixed_dictionaries(
    {},
    optional={
        RETENTION: st.sampled_from(["-1", str(DAY_MS), str(14 * DAY_MS), str(30 * DAY_MS), str(90 * DAY_MS)]),
        POLICY: st.sampled_from(["delete", "compact"]),
        IN_SYNC: st.sampled_from(["1", "2", "3"]),
        "message.timestamp.type": st.sampled_from(["CreateTime", "LogAppendTime"]),
    },
)
acls = st.sets(
    st.one_of(
        st.sampled_from(sorted(WANTED.acls)),
        st.builds(
            Acl,
            st.sampled_from(["User:goodfaith-intake", "User:goodfaith-upstream.x", "User:somebody"]),
            st.sampled_from(["topic", "group"]),
            st.sampled_from([*NAMES, "*", "eu."]),
            st.booleans(),
            st.sampled_from(["READ", "WRITE"]),
        ),
    ),
    max_size=30,
).map(frozenset)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Any cluster, its topics in any state."""
    ids = draw(brokers)
    found = {}
    for name in draw(st.sets(st.sampled_from([*NAMES, "eu.inbound.old", "orders"]))):
        count = draw(st.integers(1, len(ids)))
        replicas = draw(
            st.lists(st.permutations(ids).map(lambda order, n=count: tuple(order[:n])), min_size=1, max_size=9)
        )
        found[name] = Found(
            tuple(replicas), draw(configs), draw(st.sampled_from([0, DAY_MS, 20 * DAY_MS, 100 * DAY_MS]))
        )
    return Cluster(ids, found, draw(st.one_of(st.none(), acls)))


@given(settings_, clusters(), st.sets(st.sampled_from(ALLOWANCES)).map(frozenset))
def test_what_is_planned_is_all_that_there_is_to_do(
    settings: Settings, cluster: Cluster, allowed: frozenset[str]
) -> None:
    wanted = declared(settings)
    first = plan(wanted, cluster, allowed)
    second = plan(wanted, after(cluster, first), allowed)
    assert not second.changes
    assert second.refusals == first.refusals
    assert second.notes == first.notes


@given(settings_, clusters(), st.sets(st.sampled_from(ALLOWANCES)).map(frozenset))
def test_nothing_that_is_planned_loses_anything(settings: Settings, cluster: Cluster, allowed: frozenset[str]) -> None:
    wanted = declared(settings)
    then = after(cluster, plan(wanted, cluster, allowed))
    assert cluster.topics.keys() <= then.topics.keys()
    for name, before in cluster.topics.items():
        now = then.topics[name]
        kept = now.replicas[: len(before.replicas)]
        assert all(set(old) <= set(new) and old[0] == new[0] for old, new in zip(before.replicas, kept, strict=True))
        if len(now.replicas) > len(before.replicas):
            assert not wanted.topics[name].ordered
        assert now.configs.get(POLICY) == before.configs.get(POLICY, now.configs.get(POLICY))
        if RETENTION in before.configs and topic_plan._shorter(
            int(now.configs[RETENTION]), int(before.configs[RETENTION])
        ):
            assert "shorter-retention" in allowed
            assert before.unread_ms < int(now.configs[RETENTION])
        if IN_SYNC in before.configs and "fewer-in-sync" not in allowed:
            assert int(now.configs[IN_SYNC]) >= int(before.configs[IN_SYNC])
    if cluster.acls is not None and then.acls is not None:
        ours = access.ours(settings)
        assert {acl for acl in cluster.acls - then.acls if not ours.fullmatch(acl.principal)} == set()
        mine = {acl for acl in then.acls if ours.fullmatch(acl.principal)}
        assert {acl for acl in mine if topic_plan._touches(wanted, acl)} == wanted.acls
