"""PHP's spelling of JSON: recorded from PHP 8.2, and against PHP itself."""

import json
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export_pipeline.subscribers.parsing import parse
from export_pipeline.subscribers.php_json import php_json, php_print
from export_pipeline_tests.servers.programs import program

RECORDED = [
    ('{"a":{}}', '{"a":[]}'),
    ('{"a":[]}', '{"a":[]}'),
    ('{"a":{"b":{"c":{}}}}', '{"a":{"b":{"c":[]}}}'),
    ('{"a":1250.0}', '{"a":1250}'),
    ('{"a":1.5e-7}', '{"a":1.5e-7}'),
    ('{"a":1e25}', '{"a":1.0e+25}'),
    ('{"a":-0.0}', '{"a":-0}'),
    ('{"a":-0}', '{"a":0}'),
    ('{"a":123456789012345678901234567890}', '{"a":1.2345678901234568e+29}'),
    ('{"a":9223372036854775807}', '{"a":9223372036854775807}'),
    ('{"a":9223372036854775808}', '{"a":9.223372036854776e+18}'),
    ('{"a":0.1}', '{"a":0.1}'),
    ('{"a":0.0001}', '{"a":0.0001}'),
    ('{"a":0.00001}', '{"a":1.0e-5}'),
    ('{"a":1e16}', '{"a":10000000000000000}'),
    ('{"a":1e17}', '{"a":1.0e+17}'),
    ('{"a":-1.5E+300}', '{"a":-1.5e+300}'),
    ('{"a":5e-324}', '{"a":5.0e-324}'),
    ('{"a":0.30000000000000004}', '{"a":0.30000000000000004}'),
    ('{"a":12345678.9}', '{"a":12345678.9}'),
    ('{"a":"é/ü🦔\\u2028\\u0001\\n\\"\\\\"}', '{"a":"\\u00e9\\/\\u00fc\\ud83e\\udd94\\u2028\\u0001\\n\\"\\\\"}'),
    ('{"a":{"0":1,"1":2}}', '{"a":[1,2]}'),
    ('{"a":{"1":1}}', '{"a":{"1":1}}'),
    ('{"a":{"1":1,"0":2}}', '{"a":{"1":1,"0":2}}'),
    ('{"a":{"-0":1,"00":2}}', '{"a":{"-0":1,"00":2}}'),
    ('{"a":1,"b":2,"a":3}', '{"a":3,"b":2}'),
    ('{"a":[null,true,false]}', '{"a":[null,true,false]}'),
    ('{"a":"\x7f"}', '{"a":"\x7f"}'),
    ('{"a/b":1}', '{"a\\/b":1}'),
    ('{"a":1e400}', ""),
]


@pytest.mark.parametrize(("line", "printed"), RECORDED)
def test_as_recorded(line: str, printed: str) -> None:
    """What PHP 8.2 printed for this line."""
    assert php_json(json.loads(line)) == printed
    assert php_print(parse(line.encode())).decode() == printed


EVENTS: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.sampled_from("0123"), inner, max_size=3)
    ),
    max_leaves=20,
)


@pytest.fixture(scope="session")
def php() -> str:
    """PHP's command."""
    return program("php", "apt-get install php-cli")


@settings(max_examples=10, deadline=None)
@given(events=st.lists(EVENTS, min_size=20, max_size=60))
def test_as_php_prints_it(php: str, events: list[Any]) -> None:
    """PHP itself prints the same, for any event."""
    lines = "".join(json.dumps(event) + "\n" for event in events)
    script = 'while (($l = fgets(STDIN)) !== false) echo json_encode(json_decode($l, true)), "\n";'
    told = subprocess.run([php, "-r", script], input=lines, capture_output=True, text=True, check=True).stdout
    for line, printed in zip(lines.splitlines(), told.split("\n"), strict=False):
        assert php_json(json.loads(line)) == printed
        assert php_print(parse(line.encode())).decode() == printed


@given(event=EVENTS, is_ascii=st.booleans())
def test_the_fast_way_prints_the_same(event: Any, is_ascii: bool) -> None:
    """Whatever is in an event, both ways agree."""
    text = json.dumps(event, ensure_ascii=is_ascii)
    assert php_print(json.loads(text)).decode() == php_json(json.loads(text))
