"""What the law of each profile wants in a message, in every language, in text and in HTML.

Each rule names its source. Words are looked for without spaces, as lines are broken anywhere in Chinese.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import pytest

from services.notification.domain import Facts, deadline
from services.notification.payload import body
from services.notification.preview import AGENT, CONTACTS, HOLDER, NOW, SELLER, SITE, preview
from services.notification.render import Rendered, moment
from services.notification.types import Item, Message
from shared import calendars, policy
from shared.events import State
from shared.languages import LANGUAGES, translate

PROFILES = ("ipp", "dmca", "cn-ecl", "bpp", "project-zero", "dsa")
SILENT = ("dmca", "cn-ecl")
"""The seller's silence changes nothing: no time to counter."""
REDRESS = ("claim_receipt", "outcome", "seller_notice")

pytestmark = [pytest.mark.parametrize("locale", LANGUAGES)]


def test_every_profile_is_looked_at(locale: str) -> None:
    assert set(PROFILES) == set(policy.profiles())


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data


def squash(text: str) -> str:
    return re.sub(r"\s+", "", text)


def both(made: Rendered) -> list[str]:
    """Text and HTML, as one reads them, without spaces."""
    page = _Words()
    page.feed(made.html)
    return [squash(f"{made.subject}\n{made.body}"), squash(page.text)]


def says(made: Rendered, *words: str) -> None:
    for text in both(made):
        for word in words:
            assert squash(word) in text, word


def rules_of(profile: str) -> policy.Policy:
    return policy.current(profile)


# ---- the seller's notice


@pytest.mark.parametrize("profile", PROFILES)
def test_notice_names_holder_right_reason_and_listings(profile: str, locale: str) -> None:
    """The brief, 2: "with the claim and the contact information of the right holder".

    Also 17 U.S.C. 512(c)(3)(A)(ii)-(iv) (work, material, contact), E-Commerce Law 42(2) (the notice is forwarded), DSA 17(3)(b), (e).
    """
    made = preview("seller_notice", profile=profile, locale=locale)
    reason = next(iter(rules_of(profile).reasons.values()))
    for contact in (CONTACTS[HOLDER], CONTACTS[AGENT]):
        says(made, contact.name, *contact.lines, contact.email)
    says(made, "1234567", translate(reason.title, locale), "c-preview", "i-preview.1")
    says(made, *(f"{SITE}/items/listing-{number}" for number in range(1, 5)))
    if reason.explanation:
        says(made, translate(reason.explanation, locale))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_reason_has_a_title_and_says_what_it_means(profile: str, locale: str) -> None:
    """DSA 17(3)(d), (e): "explanations as to why"; a code is no reason for a reader."""
    for code, reason in rules_of(profile).reasons.items():
        assert reason.title, code
        assert reason.explanation, code
        assert locale == "en" or translate(reason.explanation, locale) != reason.explanation, code


@pytest.mark.parametrize("profile", PROFILES)
def test_notice_says_how_and_until_when_to_counter(profile: str, locale: str) -> None:
    """docs/explanation/domain.md, row 9: the window; "seller silent: nothing" where there is none (17 U.S.C. 512(g), E-Commerce Law 43)."""
    made = preview("seller_notice", profile=profile, locale=locale)
    rules = rules_of(profile)
    code, reason = next(iter(rules.reasons.items()))
    facts = Facts(
        listing="l",
        seller=SELLER,
        complainant=AGENT,
        principal=HOLDER,
        right="r",
        right_type=reason.rights[0],
        reason=code,
        policy=rules.version,
        state=State.NOTIFIED,
    )
    says(made, '"counter"', {"en": "counter-notification", "de": "Gegendarstellung", "zh": "反通知"}[locale])
    end = deadline("seller_notice", [facts], NOW)
    if profile in SILENT:
        assert end is None
        says(made, {"en": "there is no date", "de": "es gibt keinen Termin", "zh": "没有期限"}[locale])
    else:
        assert end is not None
        says(made, moment(end))


@dataclass(frozen=True)
class Rule:
    """What must be said, where, and who wants it."""

    source: str
    profiles: tuple[str, ...]
    kinds: tuple[str, ...]
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    always: tuple[str, ...] = ()
    """In every language."""


RULES = (
    Rule(
        "17 U.S.C. 512(g)(3)(C): a counter notification has a statement under penalty of perjury",
        ("dmca",),
        ("seller_notice",),
        {
            "en": ("penalty of perjury", "mistake or misidentification"),
            "de": ("Meineid", "Verwechslung"),
            "zh": ("伪证", "误认"),
        },
        ("512(g)(3)",),
    ),
    Rule(
        "17 U.S.C. 512(g)(3)(D): name, address, telephone number, consent to jurisdiction, service of process",
        ("dmca",),
        ("seller_notice",),
        {
            "en": ("consent to the jurisdiction", "Federal District Court", "service of process", "telephone number"),
            "de": ("Zustimmung zur Zuständigkeit", "Federal District Court", "Zustellung", "Telefonnummer"),
            "zh": ("管辖", "联邦地区法院", "送达", "电话号码"),
        },
    ),
    Rule(
        "17 U.S.C. 512(g)(3)(A), (B): signature; the material and where it stood",
        ("dmca",),
        ("seller_notice",),
        {"en": ("signature", "the material"), "de": ("Unterschrift", "Material"), "zh": ("签名", "材料")},
    ),
    Rule(
        "17 U.S.C. 512(g)(2)(B), (C): sent on to who gave the notice; replaced in 10 to 14 business days unless an action is filed",
        ("dmca",),
        ("seller_notice", "counter_forwarded", "counter_received"),
        {"en": ("business days", "court order"), "de": ("Geschäftstage", "gerichtlich"), "zh": ("工作日", "法院")},
        ("10", "14", "512(g)(2)"),
    ),
    Rule(
        "17 U.S.C. 512(f): who misrepresents knowingly is liable",
        ("dmca",),
        ("seller_notice", "claim_receipt"),
        {"en": ("is liable",), "de": ("haftet",), "zh": ("赔偿",)},
        ("512(f)",),
    ),
    Rule(
        "E-Commerce Law 43(1): the operator may submit a statement that there is no infringement, with preliminary evidence",
        ("cn-ecl",),
        ("seller_notice",),
        {
            "en": ("preliminary evidence", "no infringement"),
            "de": ("vorläufige", "keine Verletzung"),
            "zh": ("初步证据", "不存在侵权行为"),
        },
    ),
    Rule(
        "E-Commerce Law 43(2): forwarded to the holder, who is told of authority and court; measures end after 15 days",
        ("cn-ecl",),
        ("seller_notice",),
        {
            "en": ("authority", "court", "15 days"),
            "de": ("Behörde", "Volksgericht", "15 Tagen"),
            "zh": ("主管部门", "人民法院", "十五日"),
        },
    ),
    Rule(
        "docs/explanation/domain.md, Profiles: at most 20 working days for holders abroad, not 15 days and 20 working days more",
        ("cn-ecl",),
        ("seller_notice",),
        {
            "en": ("it is 20 working days instead",),
            "de": ("gelten stattdessen 20 Arbeitstage",),
            "zh": ("该期限为 20 个工作日",),
        },
    ),
    Rule(
        "E-Commerce Law 43(2): the holder is told that it may complain to the authority or sue",
        ("cn-ecl",),
        ("counter_forwarded",),
        {"en": ("authority", "people's court"), "de": ("Behörde", "Volksgericht"), "zh": ("主管部门", "人民法院")},
    ),
    Rule(
        "E-Commerce Law 42(3): who gives a wrong notice is liable, doubly if in bad faith",
        ("cn-ecl",),
        ("seller_notice", "claim_receipt"),
        {"en": ("double", "bad faith"), "de": ("Doppelte", "bösgläubig"), "zh": ("加倍", "恶意")},
    ),
    Rule(
        "docs/explanation/domain.md, Profiles: paused on receipt; 4 days, then deleted; reactivated after 4 days; the platform never judges",
        ("bpp",),
        ("seller_notice",),
        {
            "en": ("paused", "deleted", "4 days", "do not judge"),
            "de": ("angehalten", "gelöscht", "4 Tagen"),
            "zh": ("暂停", "删除", "4 天"),
        },
    ),
    Rule(
        "docs/explanation/domain.md, Profiles: a sample is audited",
        ("project-zero",),
        ("seller_notice",),
        {"en": ("sample",), "de": ("Stichprobe",), "zh": ("抽查",)},
    ),
    Rule(
        "DSA 17(3)(a): the restriction, its territorial scope and its duration",
        ("dsa",),
        ("seller_notice",),
        {"en": ("taken down", "For how long"), "de": ("gesperrt", "Dauer"), "zh": ("下架", "期限")},
        ("AT, BE, BG", "SI, SK"),
    ),
    Rule(
        "DSA 17(3)(b), (c): by a notice under article 16 or not; automated means in detection and decision",
        ("dsa",),
        ("seller_notice",),
        {
            "en": ("notice of the right holder", "no automated means", "by rule, without a person"),
            "de": ("Meldung des Rechtsinhabers", "keine automatisierten Mittel", "ohne einen Menschen"),
            "zh": ("权利人通知", "未使用自动化手段", "无人工参与"),
        },
    ),
    Rule(
        "DSA 17(3)(d): the legal ground and why the content is illegal on it",
        ("dsa",),
        ("seller_notice",),
        {
            "en": ("2017/1001", "trade mark is used"),
            "de": ("2017/1001", "Zustimmung ihres Inhabers"),
            "zh": ("2017/1001", "未经商标所有人同意"),
        },
    ),
    Rule(
        "DSA 17(3)(f): redress: internal complaint (20), out-of-court settlement (21), courts; 16(5) for who gave the notice",
        ("dsa",),
        REDRESS,
        {
            "en": ("out-of-court", "courts", "complain"),
            "de": ("außergerichtlichen", "Gerichte", "Beschwerde"),
            "zh": ("庭外争议解决", "法院", "申诉"),
        },
    ),
    Rule(
        "DSA 20(1): a complaint is free of charge for at least six months; docs/explanation/domain.md, row 19, for every profile",
        PROFILES,
        REDRESS,
        {"en": ("free of charge", "184 days"), "de": ("kostenlos", "184 Tagen"), "zh": ("免费", "184")},
        ('"complain"',),
    ),
    Rule(
        "DSA 20(6): not decided by automation alone; row 19: by a person",
        PROFILES,
        REDRESS,
        {
            "en": ("A person who has not decided",),
            "de": ("Jemand, der bisher nicht",),
            "zh": ("由此前未作过决定的人员",),
        },
    ),
)


@pytest.mark.parametrize(
    ("rule", "profile", "kind"),
    [(rule, profile, kind) for rule in RULES for profile in rule.profiles for kind in rule.kinds],
    ids=lambda value: value if isinstance(value, str) else value.source.split(":")[0],
)
def test_what_the_law_wants_said_is_said(rule: Rule, profile: str, kind: str, locale: str) -> None:
    for to_seller in (False, True) if kind == "outcome" else (False,):
        says(preview(kind, profile=profile, locale=locale, to_seller=to_seller), *rule.words[locale], *rule.always)


# ---- the counter, the outcome


@pytest.mark.parametrize("profile", PROFILES)
def test_forwarded_counter_has_the_sellers_contact_and_the_holders_time(profile: str, locale: str) -> None:
    """docs/explanation/domain.md, row 12: contact data of both exchanged; 17 U.S.C. 512(g)(2)(B); E-Commerce Law 43(2)."""
    made = preview("counter_forwarded", profile=profile, locale=locale)
    says(made, CONTACTS[SELLER].name, *CONTACTS[SELLER].lines, CONTACTS[SELLER].email)
    rules = rules_of(profile)
    code, reason = next(iter(rules.reasons.items()))
    facts = Facts(
        listing="l",
        complainant=AGENT,
        principal=HOLDER,
        right="r",
        right_type=reason.rights[0],
        reason=code,
        policy=rules.version,
        state=State.HOLDER_RESPONSE,
    )
    end = deadline("counter_forwarded", [facts], NOW)
    assert end is not None
    says(made, moment(end))
    for text in both(made):
        assert CONTACTS[HOLDER].email not in text
    received = preview("counter_received", profile=profile, locale=locale)
    says(received, CONTACTS[HOLDER].name, CONTACTS[HOLDER].email)
    for text in both(received):
        assert CONTACTS[SELLER].email not in text


@pytest.mark.parametrize("profile", PROFILES)
def test_holder_abroad_is_told_its_own_time(profile: str, locale: str) -> None:
    """docs/explanation/domain.md, Profiles: `cn-ecl`, 20 working days of China for holders abroad; nobody else has other days for them."""
    rules = rules_of(profile)
    at_home = preview("counter_forwarded", profile=profile, locale=locale)
    abroad = preview("counter_forwarded", profile=profile, locale=locale, abroad=True)
    if profile != "cn-ecl":
        assert abroad.body == at_home.body
        return
    end = calendars.calendar("cn").add_working_days(NOW, 20)
    says(abroad, moment(end))
    assert moment(end) not in at_home.body
    code, reason = next(iter(rules.reasons.items()))
    facts = Facts(
        listing="l",
        complainant=AGENT,
        principal=HOLDER,
        right="r",
        right_type=reason.rights[0],
        reason=code,
        policy=rules.version,
        state=State.HOLDER_RESPONSE,
        abroad=True,
    )
    message = Message(
        "m-1", "c-1", AGENT, "counter_forwarded", False, 0, NOW, claim_size=1, items=[Item("i-1", 2, 0, facts)]
    )
    contacts = {account: replace(contact, language=locale) for account, contact in CONTACTS.items()}
    raw, shown = body(message, contacts, None, site=SITE, now=NOW)
    assert dt.datetime.fromisoformat(json.loads(raw)["data"]["deadline"]) == end
    assert moment(end) in shown.body


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("to_seller", [False, True])
def test_outcome_gives_reason_and_redress_and_discloses_nobody(profile: str, to_seller: bool, locale: str) -> None:
    """DSA 17(3)(f), 20(5): the decision, its reason, redress. Contacts are exchanged at rows 7 and 12 only."""
    made = preview("outcome", profile=profile, locale=locale, to_seller=to_seller)
    rules = rules_of(profile)
    says(made, translate(rules.refusals["not_infringing"], locale), '"complain"')
    says(made, {"en": "by a person", "de": "von einem Menschen", "zh": "由人工决定"}[locale])
    to, other = (SELLER, AGENT) if to_seller else (AGENT, SELLER)
    says(made, CONTACTS[to].name)
    for text in both(made):
        for contact in (CONTACTS[other], CONTACTS[HOLDER]):
            assert squash(contact.name) not in text
            assert contact.email not in text
