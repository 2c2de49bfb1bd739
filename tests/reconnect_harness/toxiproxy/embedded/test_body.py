"""The texts with which the embedded server refuses a body: what is wrong, and what is allowed."""

from __future__ import annotations

import pytest

from reconnect_harness.toxiproxy.embedded.body import FieldType, decode, fields
from reconnect_harness.toxiproxy.embedded.errors import ApiError

KNOWN = {
    "name": FieldType.TEXT,
    "enabled": FieldType.BOOLEAN,
    "delay": FieldType.WHOLE_NUMBER,
    "toxicity": FieldType.NUMBER,
    "attributes": FieldType.OBJECT,
}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"  ", "it is empty"),
        (b"{", "it is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b'{"toxicity":NaN}', "it is not JSON: NaN is not a JSON value"),
        (b"[]", "it must be an object"),
        (b'{"name":3}', "name must be a string"),
        (b'{"enabled":1}', "enabled must be true or false"),
        (b'{"delay":1.0}', "delay must be a whole number of 64 bits"),
        (b'{"delay":true}', "delay must be a whole number of 64 bits"),
        (b'{"delay":9223372036854775808}', "delay must be a whole number of 64 bits"),
        (b'{"toxicity":"1"}', "toxicity must be a number"),
        (b'{"toxicity":1e39}', "toxicity must be a number"),
        (b'{"toxicity":1e400}', "toxicity must be a number"),
        (b'{"attributes":[]}', "attributes must be an object"),
    ],
)
def test_a_refusal_names_the_field_and_its_type(body: bytes, error: str) -> None:
    """In one line, with status 400."""
    with pytest.raises(ApiError) as refused:
        fields(decode(body), KNOWN)
    assert str(refused.value) == f"bad request body: {error}"
    assert refused.value.status == 400


def test_the_path_of_a_field_is_in_its_refusal() -> None:
    """So that an attribute of a toxic, or a proxy of a list, can be found."""
    with pytest.raises(ApiError, match=r"attributes\.delay must be a whole number"):
        fields({"delay": "1"}, KNOWN, "attributes")


def test_nulls_unknown_fields_and_case_do_not_matter() -> None:
    """Nor does what follows the first value."""
    body = b'{"NAME":"a","colour":1,"enabled":null,"toxicity":0.1234567891} more'
    assert fields(decode(body), KNOWN) == {"name": "a", "toxicity": 0.12345679}
