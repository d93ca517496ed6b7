"""Forms: what they offer is what intake takes."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from services.intake.filing.domain import check_claim
from services.intake.kernel import requests
from services.intake.kernel.domain import Account
from services.intake.registry import forms, registers
from shared import policy
from shared.events import RightType
from shared.languages import LANGUAGES
from shared.policy import load, versions
from shared.refusals import Refused

IPP = load("ipp-2026-11")
HOLDER = Account("a-1", "holder", identity_verified=True, registered=True)
FAITHFUL = Account("a-2", "holder", identity_verified=True, good_faith=True, registered=True)


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("language", LANGUAGES)
def test_of_every_policy_in_every_language(version: str, language: str) -> None:
    rules = load(version)
    form = msgspec.json.decode(forms.encoded(version, language), type=forms.Form)
    assert (form.profile, form.policy, form.language) == (rules.profile, version, language)
    offered = {(right.code, reason.code) for right in form.rights for reason in right.reasons}
    assert offered == {(kind, code) for code, reason in rules.reasons.items() for kind in reason.rights}
    assert {refusal.code for refusal in form.refusals} == set(rules.refusals)
    for right in form.rights:
        assert right.label
        assert {register.register for register in right.registers} == {
            name for name, kind in registers.FORMATS if kind == right.code
        }
        for reason in right.reasons:
            wanted = rules.reasons[reason.code]
            assert reason.severity == wanted.severity
            assert tuple(named.code for named in reason.evidence) == wanted.materials
            assert tuple(named.code for named in reason.evidence_in_good_faith) == wanted.needed(good_faith=True)
            assert reason.title
            assert reason.explanation, f"{version}: reasons.{reason.code}.explanation"
    assert all(refusal.cure for refusal in form.refusals)
    assert form.limits.listings == rules.claim.max_items


def test_languages_differ() -> None:
    english, chinese, german = (forms.form(IPP, language) for language in LANGUAGES)
    assert [form.rights[0].label for form in (english, chinese, german)] == ["Trade mark", "商标", "Marke"]
    assert len({form.rights[0].reasons[0].explanation for form in (english, chinese, german)}) == 3
    assert len({form.refusals[0].cure for form in (english, chinese, german)}) == 3
    (us,) = [register for register in german.rights[0].registers if register.register == "us"]
    assert us.number == "bis zu 7 Ziffern"
    assert {right.code: right.classes for right in german.rights} == {
        "trademark": "die Zahlen 1 bis 45 (Nizza)",
        "copyright": None,
        "design": "NN-NN, etwa 02-02 (Locarno)",
        "utility_model": None,
        "invention": None,
        "geographical_indication": None,
    }
    assert [register.register for register in german.rights[0].registers if register.designates] == ["wipo"]


def test_a_form_names_the_profiles_that_are_offered() -> None:
    assert forms.form(IPP, "en").profiles == policy.profiles()
    told = msgspec.json.decode(forms.encoded("ipp-2026-11", "en", ("dsa", "ipp")), type=forms.Form)
    assert told.profiles == ("dsa", "ipp")


def test_every_kind_of_right_has_a_name() -> None:
    assert set(forms.RIGHTS) == set(get_args(RightType))


def test_grounds_of_a_withdrawal_are_those_of_intake() -> None:
    (ground,) = [field for field in msgspec.structs.fields(requests.Withdraw) if field.name == "ground"]
    assert set(forms.GROUNDS) == set(get_args(ground.type))


def test_a_language_that_there_is_not_is_refused() -> None:
    assert forms.language_of(None, "de") == "de"
    assert forms.language_of("zh", "de") == "zh"
    with pytest.raises(Refused) as refused:
        forms.language_of("fr", "de")
    assert (refused.value.status, refused.value.field) == (422, "language")


def test_a_reason_for_good_faith_only(monkeypatch: pytest.MonkeyPatch) -> None:
    only = msgspec.structs.replace(IPP.reasons["counterfeit"], good_faith_only=True)
    rules = msgspec.structs.replace(IPP, reasons={**IPP.reasons, "counterfeit": only})
    monkeypatch.setattr(policy, "current", lambda _: rules)
    claim = requests.SubmitClaim(right="r-1", reason="counterfeit", listings=["https://market.example/items/1"])
    assert check_claim(claim, FAITHFUL) is rules
    with pytest.raises(Refused) as refused:
        check_claim(claim, HOLDER)
    assert (refused.value.status, refused.value.reason, refused.value.field) == (422, "good_faith_only", "reason")
    assert "improper_use" in refused.value.cure
    assert "counterfeit" not in refused.value.cure
    assert check_claim(msgspec.structs.replace(claim, reason="improper_use"), HOLDER) is rules
    shown = {
        reason.code: reason.good_faith_only for right in forms.form(rules, "en").rights for reason in right.reasons
    }
    assert [code for code, only in shown.items() if only] == ["counterfeit"]


def test_a_refusals_cure_is_that_of_the_items_policy() -> None:
    wanted = IPP.refusals["link_invalid"]
    assert forms.cure("ipp-2026-11", "link_invalid", "en") == wanted
    assert forms.cure("ipp-2026-11", "link_invalid", "zh") not in (wanted, None)
    assert forms.cure("ipp-2026-11", "no_such", "de") is None
    assert forms.cure("of-tomorrow", "link_invalid", "de") is None
