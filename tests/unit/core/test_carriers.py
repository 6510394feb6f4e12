"""A carrier's Secret: what it may hold, and what its owner is told."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from callfleet_core.carriers import CarrierAccount, CarrierSecretError, Source, parse_account

SECRET = "a-token-nobody-may-see"
OURS = CarrierAccount(
    "AC" + "0" * 32, SecretStr("own"), "http://simulator:8090", "https://calls.example.com", simulated=True
)
SOURCE = Source("sales", "twilio-main")
GIVEN = {"accountSid": "AC" + "1" * 32, "authToken": SECRET, "apiBaseURL": "https://api.twilio.com"}


def parsed(**changes: str) -> CarrierAccount:
    return parse_account({**GIVEN, **changes}, SOURCE, OURS)


def test_the_least_that_is_needed() -> None:
    account = parsed()
    assert account.login == (GIVEN["accountSid"], SECRET)
    assert (account.public_url, account.simulated) == ("https://calls.example.com", False)
    assert (account.calls_per_second, account.max_concurrent) == (1.0, 10)
    assert account.source == SOURCE


def test_an_api_key_places_the_calls() -> None:
    assert parsed(apiKeySid="SK1", apiKeySecret="hidden").login == ("SK1", "hidden")


def test_numbers_are_read_as_dialled() -> None:
    assert parsed(numbers="+1 555 010 0001".replace(" ", "") + ", +15550100002").numbers == {
        "+15550100001",
        "+15550100002",
    }


def test_only_the_installations_own_address_is_a_simulator() -> None:
    assert parsed(apiBaseURL="http://simulator:8090/").simulated
    assert not parsed(apiBaseURL="https://api.dublin.ie1.twilio.com").simulated


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"accountSid": ""}, "accountSid is missing"),
        ({"authToken": " "}, "authToken is missing"),
        ({"apiBaseURL": ""}, "apiBaseURL is missing"),
        ({"accountSid": "AC12"}, "32 hexadecimal"),
        ({"apiKeySid": "SK1"}, "belong together"),
        ({"apiBaseURL": "https://api.twilio.com.evil.example"}, "sent nowhere else"),
        ({"apiBaseURL": "https://evil.example/api.twilio.com"}, "sent nowhere else"),
        ({"apiBaseURL": "http://api.twilio.com"}, "sent nowhere else"),
        ({"publicURL": "calls.example.com"}, "publicURL"),
        ({"publicURL": "https://calls.example.com/?to=me"}, "publicURL"),
        ({"callsPerSecond": "fast"}, "callsPerSecond"),
        ({"callsPerSecond": "0"}, "callsPerSecond"),
        ({"maxConcurrent": "2.5"}, "whole number"),
        ({"numbers": "5550100"}, "international form"),
        ({"authtoken": "typo"}, "1 of its keys are unknown"),
    ],
)
def test_a_bad_secret_is_told_by_its_key_and_never_repeated(changes: dict[str, str], told: str) -> None:
    with pytest.raises(CarrierSecretError, match=told) as refused:
        parsed(**changes)
    assert SECRET not in str(refused.value)
    assert "evil" not in str(refused.value)


def test_credentials_do_not_show() -> None:
    assert SECRET not in repr(parsed(apiKeySid="SK1", apiKeySecret=SECRET, numbers="+15550100001"))
    assert "15550100001" not in repr(parsed(numbers="+15550100001"))
