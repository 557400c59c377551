"""The finder of secrets finds them in every form they could leave in, and names the place."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from tests.campaign.canary_forms import forms, leaks

SECRET = "s3cr/t+word?&42@end"


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}!",
        quote(SECRET, safe=""),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        json.dumps({"key": SECRET}),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"admin:{SECRET}".encode()).decode(),
        base64.b64encode(f"ad:{SECRET} and more".encode()).decode(),
        base64.urlsafe_b64encode(f"a{SECRET}".encode()).decode(),
        SECRET[::-1],
    ],
)
def test_a_secret_is_found_in_every_form(text: str) -> None:
    (found, *_) = leaks({"a log": f"before {text} after"}, {"a key": SECRET})
    assert found.startswith("a key stands in a log")
    assert SECRET not in found


def test_what_holds_no_secret_is_clean() -> None:
    text = base64.b64encode(b"nothing to see here, only words").decode()
    assert leaks({"a log": text, "another": "s3cr/t"}, {"a key": SECRET}) == []
    assert all(len(form) >= 8 for form in forms("short"))
