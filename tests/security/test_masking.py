"""`masking.redact` hides what Airflow masks, wherever it stands in a value."""

from __future__ import annotations

import json

import pytest
from airflow._shared import secrets_masker as core

from airflow_provider_nbjob.masking import FAILED, is_sensitive, mask, mask_parameters, redact

SECRET = "s3cr3t-Value"


def nested(value, depth):
    for _ in range(depth):
        value = [{"x": value}]
    return value


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        f"postgresql://user:{SECRET}@host/db",
        {"a": [{"b": SECRET}]},
        {SECRET: 1},
        (SECRET, [f"{SECRET}{SECRET}"]),
        nested(SECRET, 50),
    ],
    ids=repr,
)
def test_a_secret_is_hidden_wherever_it_stands(airflow_masks, value):
    before = json.dumps(value)
    airflow_masks(SECRET)
    assert SECRET not in json.dumps(redact(value))
    assert "***" in json.dumps(redact(value))
    assert json.dumps(value) == before  # the value itself stays


def test_secrets_of_both_maskers_are_hidden(airflow_masks):
    airflow_masks(SECRET)
    core.mask_secret("known-to-the-core")
    assert redact(f"{SECRET} known-to-the-core") == "*** ***"


@pytest.mark.parametrize("name", ["password", "db_PASSWORD", "api_key", "my-token", "private_key"])
def test_what_stands_under_the_name_of_a_secret_is_hidden(name):
    assert is_sensitive(name)
    assert redact({name: ["x", {"y": "z"}], "other": 1}) == {name: ["***", {"y": "***"}], "other": 1}
    assert redact("x", name) == "***"
    assert redact(nested({name: "x"}, 20)) == nested({name: "***"}, 20)


def test_a_number_is_hidden_if_its_digits_are_a_secret(airflow_masks):
    airflow_masks("8675309")
    assert redact({"pin": 8675309, "other": 42, "is": True, "none": None}) == {
        "pin": "***",
        "other": 42,
        "is": True,
        "none": None,
    }
    assert redact(10**4000) == 10**4000


def test_what_is_nested_too_deep_to_be_searched_is_not_shown():
    assert redact(nested("x", 100_000)) == FAILED


@pytest.mark.parametrize("secret", ['with "quotes"', "back\\slash-and'quote", "-----BEGIN KEY-----\nabcdefgh\nEND"])
def test_escaped_forms_of_a_secret_are_hidden_once_they_are_asked_for(airflow_masks, secret):
    airflow_masks(secret)
    mask_parameters({"parameters": [{"dsn": f"host={secret}"}], "n": 1})
    for text in (repr(secret)[1:-1], json.dumps(secret)[1:-1], *secret.splitlines()):
        assert len(text) < 8 or text not in redact(f"x = {text}")


def test_a_text_can_be_registered(airflow_masks):
    mask(SECRET)
    assert redact(f"x{SECRET}") == "x***"
