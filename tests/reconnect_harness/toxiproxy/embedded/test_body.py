"""The texts with which the embedded server refuses a body: which field is wrong, and what is allowed."""

from __future__ import annotations

import pytest

from reconnect_harness.toxiproxy.embedded.body import ProxyBody, ToxicBody, read, whole_numbers
from reconnect_harness.toxiproxy.embedded.errors import BadRequest


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"  ", "it is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"{", "it is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"[]", "it: [] is not valid: input should be a valid dictionary or instance of ToxicBody"),
        (b'{"name":3}', "name: 3 is not valid: input should be a valid string"),
        (b'{"toxicity":"1"}', "toxicity: '1' is not valid: input should be a valid number"),
        (b'{"toxicity":NaN}', "toxicity: nan is not valid: input should be a finite number"),
        (b'{"toxicity":1e400}', "toxicity: inf is not valid: input should be a finite number"),
        (b'{"attributes":[]}', "attributes: [] is not valid: input should be a valid dictionary"),
    ],
)
def test_a_refusal_names_the_field_and_its_type(body: bytes, error: str) -> None:
    """In one line, with status 400."""
    with pytest.raises(BadRequest) as refused:
        read(body, ToxicBody)
    assert str(refused.value) == f"bad request body: {error}"
    assert refused.value.status == 400


@pytest.mark.parametrize("value", [1.0, True, "1", 2**63, -(2**63) - 1])
def test_an_attribute_is_a_whole_number_of_64_bits(value: object) -> None:
    """The refusal names it. Attributes of other toxics are not read."""
    with pytest.raises(BadRequest, match=r"delay: .* is not valid"):
        whole_numbers({"delay": value}, {"delay": 0})
    assert whole_numbers({"delay": value, "jitter": -(2**63)}, {"latency": 5, "jitter": 4}) == {
        "latency": 5,
        "jitter": -(2**63),
    }


def test_the_place_in_a_list_is_in_the_refusal() -> None:
    """So that the proxy can be found."""
    with pytest.raises(BadRequest, match=r"1\.enabled: 1 is not valid"):
        read(b'[{},{"enabled":1}]', list[ProxyBody])


def test_nulls_unknown_fields_and_case_do_not_matter() -> None:
    """Nor does what follows the first value."""
    body = b'{"NAME":"a","colour":1,"stream":null,"toxicity":0.1234567891} more'
    given = read(body, ToxicBody)
    assert given.model_dump(exclude_unset=True) == {"name": "a", "toxicity": 0.12345679}
