"""Faults as text: what is read, and what is said of what cannot be."""

from __future__ import annotations

import pytest

from mdfeed.errors import UsageError
from mdfeed.exchange import cutting, garbling, refusing
from mdfeed.exchange.faults import Asked
from mdfeed.exchange.market import START_NS
from mdfeed.exchange.spec import FAULTS, parameters, parse
from tests.faults.matrix import CASES

S = 10**9


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_can_be_had_by_its_bare_name(name):
    text = "delist:symbol=BTCUSDT" if name == "delist" else name
    fault = parse(text)
    fault.step(START_NS, None)
    assert fault.is_on or fault.is_over


def test_the_words_are_the_parameters():
    assert set(parameters("drop")) == {"at", "for", "every", "seed", "stream", "path", "share", "most"}
    assert {"status", "retry_after"} <= set(parameters("rest"))
    assert "upgrades" not in parameters("upgrade")


def test_examples():
    assert isinstance(parse("drop:stream=*@depth*,share=0.01"), garbling.Drop)
    assert isinstance(parse("close:code=1008,at=10s"), cutting.Close)
    fault = parse("rest:status=429,retry_after=3,for=5s")
    assert isinstance(fault, refusing.Refuse)
    fault.step(START_NS, None)
    answer = fault.asked(Asked("GET", "/fapi/v1/depth?symbol=BTCUSDT", "x", False))
    assert answer is not None
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
    assert fault.asked(Asked("GET", "/public/stream", "x", True)) is None
    fault.step(START_NS + 5 * S, None)
    assert fault.is_over
    assert fault.asked(Asked("GET", "/fapi/v1/depth?symbol=BTCUSDT", "x", False)) is None


def test_all_of_the_matrix_can_be_read():
    for case in CASES:
        for spec in case.specs:
            parse(spec.format(SYM="BTCUSDT", sym="btcusdt"))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("dorp:share=0.1", 1, "did you mean 'drop'?"),
        ("", 1, "there are batch"),
        ("drop:shares=0.1", 6, "did you mean 'share'?"),
        ("drop:share=1.5", 12, "not between 0 and 1"),
        ("drop:share=x", 12, "is no number"),
        ("drop:share=0.5,share=0.6", 16, "given twice"),
        ("drop:share", 6, "needs a value"),
        ("drop:for=soon", 10, "no duration"),
        ("drop:", 6, "drop has no ''"),
        ("close:code=high,at=10s", 12, "no whole number"),
        ("restart:cuts=maybe", 14, "neither yes nor no"),
        ("delist", 7, "needs symbol"),
    ],
)
def test_mistakes_are_named_with_their_place(text, place, words):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"--fault {text}: column {place}: ")
    assert words in str(caught.value)
