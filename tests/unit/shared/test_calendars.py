"""Working-day calendars: year ends, clock changes, leap days, holidays that move."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import calendars
from shared.calendars import CalendarError, calendar, parse

HOUR = dt.timedelta(hours=1)


def local(name: str, text: str) -> dt.datetime:
    """A local time as UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=calendar(name).zone).astimezone(dt.UTC)


@pytest.mark.parametrize(
    ("name", "start", "n", "end"),
    [
        pytest.param("us", "2026-11-24 10:00", 1, "2026-11-25 10:00", id="next day"),
        pytest.param("us", "2026-11-24 10:00", 2, "2026-11-27 10:00", id="Thanksgiving"),
        pytest.param("us", "2026-11-27 10:00", 1, "2026-11-30 10:00", id="weekend"),
        pytest.param("us", "2026-11-28 10:00", 1, "2026-11-30 10:00", id="from a Saturday"),
        pytest.param("sa", "2026-11-26 10:00", 1, "2026-11-29 10:00", id="weekend of Friday and Saturday"),
        pytest.param("us", "2026-12-31 10:00", 1, "2027-01-04 10:00", id="year end"),
        pytest.param("us", "2021-12-30 10:00", 1, "2022-01-03 10:00", id="next year's holiday observed in this"),
        pytest.param("gb-eng", "2026-12-24 10:00", 1, "2026-12-29 10:00", id="Boxing Day observed on Monday"),
        pytest.param("de-be", "2026-12-30 10:00", 3, "2027-01-05 10:00", id="three across the year"),
        pytest.param("us", "2026-03-06 02:30", 1, "2026-03-09 02:30", id="clocks go forward in between"),
        pytest.param("de-be", "2026-10-23 02:30", 1, "2026-10-26 02:30", id="clocks go back in between"),
        pytest.param("us", "2028-02-28 10:00", 1, "2028-02-29 10:00", id="leap day"),
        pytest.param("us", "2027-02-26 10:00", 1, "2027-03-01 10:00", id="no leap day"),
        pytest.param("de-be", "2026-04-02 10:00", 1, "2026-04-07 10:00", id="Easter 2026"),
        pytest.param("de-be", "2027-03-25 10:00", 1, "2027-03-30 10:00", id="Easter 2027"),
        pytest.param("cn", "2025-01-27 10:00", 1, "2025-02-05 10:00", id="Chinese New Year 2025"),
        pytest.param(
            "cn", "2026-02-13 10:00", 1, "2026-02-14 10:00", id="Saturday worked before Chinese New Year 2026"
        ),
        pytest.param("cn", "2026-02-14 10:00", 1, "2026-02-24 10:00", id="Chinese New Year 2026"),
        pytest.param("cn", "2026-09-30 10:00", 3, "2026-10-10 10:00", id="National Day, Saturday worked after it"),
    ],
)
def test_same_time_of_day_n_working_days_later(name: str, start: str, n: int, end: str) -> None:
    assert calendar(name).add_working_days(local(name, start), n) == local(name, end)


def with_zone(zone: str) -> calendars.Calendar:
    """No weekend, so that the clocks change on a working day."""
    return parse(f'[x]\ncountry = "US"\nzone = "{zone}"\nweekend = []', "x")["x"]


def test_skipped_hour_gives_the_later_instant() -> None:
    start = dt.datetime(2026, 3, 7, 7, 30, tzinfo=dt.UTC)  # 02:30 in New York; on 8 March there is no 02:30
    assert with_zone("America/New_York").add_working_days(start, 1) == dt.datetime(2026, 3, 8, 7, 30, tzinfo=dt.UTC)


def test_repeated_hour_gives_the_later_instant() -> None:
    start = dt.datetime(2026, 10, 31, 5, 30, tzinfo=dt.UTC)  # 01:30 in New York; on 1 November it comes twice
    assert with_zone("America/New_York").add_working_days(start, 1) == dt.datetime(2026, 11, 1, 6, 30, tzinfo=dt.UTC)


def test_the_days_are_local() -> None:
    # Friday 23:30 in London is Saturday in Shanghai: from there the next working day is Monday all the same, the time not
    start = dt.datetime(2026, 6, 12, 22, 30, tzinfo=dt.UTC)
    assert calendar("gb-eng").add_working_days(start, 1) == dt.datetime(2026, 6, 15, 22, 30, tzinfo=dt.UTC)
    assert calendar("cn").add_working_days(start, 1) == dt.datetime(2026, 6, 14, 22, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize("n", [0, -1])
def test_refuses_no_days(n: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        calendar("us").add_working_days(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), n)


def test_refuses_naive_times() -> None:
    with pytest.raises(ValueError, match="time zone"):
        calendar("us").add_working_days(dt.datetime(2026, 1, 1), 1)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[x]\nzone = "UTC"\nweekend = []', "x.country: expected a string"),
        ('[x]\ncountry = "ZZ"\nzone = "UTC"\nweekend = []', "x.country: "),
        ('[x]\ncountry = "US"\nzone = "Mars"\nweekend = []', "x.zone: unknown time zone 'Mars'"),
        ('[x]\ncountry = "US"\nzone = "UTC"\nweekend = ["frei"]', "x.weekend: "),
        ('[x]\ncountry = "US"\nzone = "UTC"\nweekend = []\nfoo = 1', "x.foo: unknown key"),
        ("x = 1", "x: expected a table"),
        ("x = ", "Invalid value"),
    ],
)
def test_a_wrong_declaration_names_file_and_key(text: str, message: str) -> None:
    with pytest.raises(CalendarError, match=r"^file\.toml: ") as error:
        parse(text, "file.toml")
    assert message in str(error.value)


def test_unknown_calendar() -> None:
    with pytest.raises(CalendarError, match="no calendar 'mars'"):
        calendar("mars")


starts = st.datetimes(dt.datetime(2011, 1, 1), dt.datetime(2040, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001
names = st.sampled_from(["cn", "us", "de-be", "gb-eng", "sa"])


@given(names, starts, st.integers(1, 10))
def test_agrees_with_counting_by_hand(name: str, start: dt.datetime, n: int) -> None:
    known = calendar(name)
    end = known.add_working_days(start, n).astimezone(known.zone)
    begin = start.astimezone(known.zone)
    worked = [
        day
        for offset in range(1, (end.date() - begin.date()).days + 1)
        if known.is_working_day(day := begin.date() + dt.timedelta(days=offset))
    ]
    assert len(worked) == n
    assert worked[-1] == end.date()
    assert abs(end.replace(tzinfo=None) - dt.datetime.combine(end.date(), begin.time())) <= HOUR


@given(names, starts, st.integers(1, 10), st.integers(0, 899_999_999))
def test_the_memory_of_steps_changes_nothing(name: str, start: dt.datetime, n: int, microseconds: int) -> None:
    known = calendar(name)
    quarter = start.replace(minute=start.minute // 15 * 15, second=0, microsecond=0)
    inside = quarter + dt.timedelta(microseconds=microseconds)
    known.add_working_days(quarter, n)
    assert known.add_working_days(inside, n) == inside + known._count(inside, n)


def test_the_memory_of_steps_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendars, "CACHED", 2)
    known = with_zone("UTC")
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for hours in range(10):
        known.add_working_days(start + hours * HOUR, 1)
    assert len(known._steps) <= 2


@pytest.mark.parametrize("name", ["cn", "us", "de-be", "gb-eng", "sa"])
def test_offsets_change_on_quarters_of_an_hour(name: str) -> None:
    """What the memory of steps relies on."""
    zone: ZoneInfo = calendar(name).zone
    moment = dt.datetime(2011, 1, 1, tzinfo=dt.UTC)
    while moment.year < 2036:
        offset = moment.astimezone(zone).utcoffset()
        assert offset is not None
        assert offset % dt.timedelta(minutes=15) == dt.timedelta()
        after = moment + dt.timedelta(days=1)
        if after.astimezone(zone).utcoffset() != offset:
            low, high = moment, after
            while high - low > dt.timedelta(seconds=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == offset else (low, middle)
            change = round(high.timestamp())
            assert change % 900 == 0 or change % 900 == 1
        moment = after
