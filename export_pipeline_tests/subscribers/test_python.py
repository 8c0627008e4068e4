"""The python subscriber: user functions."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydantic import ValidationError

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.delivery.sending import Sent, send
from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.subscribers.python import Python
from export_pipeline.testing import SubscriberContract, batch_of, sample_event

HERE = __name__
BATCH = batch_of([sample_event(n) for n in range(3)])

taken: dict[str, str] = {}
mood: list[Exception] = []
answers: list[object] = []
not_callable = 17


def receive(ndjson: str, batch: Batch) -> None:
    """A function as a user writes it: remembers ids, and fails by its mood."""
    if mood:
        raise mood[0]
    if '"bad"' in ndjson:
        raise Refused("there is a bad event")
    time.sleep(0.001)
    assert ndjson.encode() == batch.data
    taken[batch.id] = ndjson


def answer(ndjson: str, batch: Batch) -> object:
    """Returns what the test says."""
    return answers[0]


def one_argument(ndjson: str) -> None:
    """Cannot be called with two."""


@pytest.fixture(autouse=True)
def forget() -> None:
    taken.clear()
    mood.clear()
    answers.clear()


class TestContract(SubscriberContract):
    """A function that behaves."""

    failures = {"TryLater": TryLater, "Blocked": Blocked, "Refused": Refused, "no such function": Blocked}

    @pytest.fixture
    def subscriber(self) -> Subscriber:
        return Python(function=f"{HERE}:receive")

    def held(self) -> Iterable[bytes]:
        return [line for text in taken.values() for line in text.encode().split(b"\n")[:-1]]

    def bad_event(self) -> bytes:
        return b'{"bad":1}'

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        if failure == "no such function":
            return Python(function=f"{HERE}:recieve")
        mood.append({"TryLater": TryLater, "Blocked": Blocked, "Refused": Refused}[failure]("as told"))
        return subscriber

    def mend(self) -> None:
        mood.clear()


def test_a_receipt_is_handed_on() -> None:
    """A function may name the events that it refuses."""
    answers.append(Receipt(refused={1: "too old"}))
    assert send(BATCH, Python(function=f"{HERE}:answer").deliver) == Sent(accepted=2, refused={1: "too old"})


@pytest.mark.parametrize("value", [False, True, 3, "ok"])
def test_any_other_answer_is_a_mistake_that_a_person_must_see(value: object) -> None:
    """A function that returns False to say that it failed must not count as a success."""
    answers.append(value)
    with pytest.raises(Blocked, match=f"answer returned a {type(value).__name__}; allowed are None and a Receipt"):
        Python(function=f"{HERE}:answer").deliver(BATCH)


def test_any_exception_counts_as_try_later() -> None:
    """An exception of the function is reported with its type and place."""
    mood.append(ZeroDivisionError("division by zero"))
    message = r"ZeroDivisionError: division by zero \(in test_python\.py, line \d+\)"
    with pytest.raises(TryLater, match=message):
        send(BATCH, Python(function=f"{HERE}:receive").deliver, retry_for_seconds=0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (f"{HERE}:recieve", "'recieve' does not exist there; it has .*receive"),
        (f"{HERE}:not_callable", "not_callable is a int, not a function"),
        (f"{HERE}:one_argument", r"one_argument cannot be called with \(ndjson, batch\): too many positional"),
        ("no_such_module:f", "no module 'no_such_module' found"),
        ("json.decoder.nothing:f", "no module 'json.decoder.nothing' found"),
    ],
)
def test_a_wrong_name_blocks_and_says_what_there_is(function: str, message: str) -> None:
    """Both deliver and check report what is wrong with the name, and nothing is retried."""
    with pytest.raises(Blocked, match=message):
        Python(function=function).deliver(BATCH)
    with pytest.raises(Blocked, match=message):
        Python(function=function).check()


@pytest.mark.parametrize("function", ["receive", "a.b", "a:b:c", "a b:c", ":f", "m:"])
def test_a_name_of_another_form_is_found_when_the_deployment_loads(function: str) -> None:
    """The form is checked without importing anything."""
    with pytest.raises(ValidationError, match=r"is not of the form package\.module:name"):
        Python(function=function)


def test_a_module_of_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the deployment is enough; it needs not be installed."""
    (tmp_path / "lies_beside.py").write_text(
        "import pathlib\ndef f(ndjson, batch):\n    pathlib.Path(batch.id).write_text(ndjson)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    Python(function="lies_beside:f").deliver(BATCH)
    assert (tmp_path / BATCH.id).read_bytes() == BATCH.data


def test_a_module_that_fails_to_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing dependency of the function's module is named, and so is any other error in it."""
    (tmp_path / "needs_other.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "is_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Blocked, match="needs_other needs 'no_such_package_at_all', which is not installed"):
        Python(function="needs_other:f").deliver(BATCH)
    with pytest.raises(Blocked, match="importing it raised ZeroDivisionError"):
        Python(function="is_broken:f").deliver(BATCH)
