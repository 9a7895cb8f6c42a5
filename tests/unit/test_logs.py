"""mdfeed.logs: formats, the journal's detection, the fold, masking."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdfeed.logs import FOLD_KEYS, Fold, is_journal, say_folded, set_up_logging

log = logging.getLogger("mdfeed.test")


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(format: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    set_up_logging(level, format, stream, {})
    return stream


def record(text: str, at: float) -> logging.LogRecord:
    made = logging.LogRecord("mdfeed", logging.WARNING, "", 0, text, None, None)
    made.created = at
    return made


def test_text_has_utc_time_level_logger_and_no_forged_line() -> None:
    stream = written("text")
    log.warning("gap in %s\n2026 error forged", "BTCUSDT")
    log.debug("not at info")
    line = stream.getvalue()
    assert line.endswith("Z warning mdfeed.test: gap in BTCUSDT\\n2026 error forged\n")
    assert line[:2] == "20"
    assert line.count("\n") == 1


def test_json_is_one_object_a_line_with_the_traceback_inside() -> None:
    stream = written("json")
    try:
        raise ValueError("redis://u:hunter2@h")
    except ValueError:
        log.exception("failed: %s", "redis://u:hunter2@h")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("error", "mdfeed.test", "failed: redis://u:***@h")
    assert "ValueError" in line["traceback"]
    assert "hunter2" not in stream.getvalue()


def test_journal_prefixes_every_line_with_its_priority() -> None:
    stream = written("journal", "debug")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.critical("d")
    try:
        raise ValueError("e")
    except ValueError:
        log.exception("f")
    lines = stream.getvalue().splitlines()
    assert lines[:5] == [
        "<7>mdfeed.test: a",
        "<6>mdfeed.test: b",
        "<4>mdfeed.test: c",
        "<2>mdfeed.test: d",
        "<3>mdfeed.test: f",
    ]
    assert all(line.startswith("<3>") for line in lines[4:])
    assert lines[-1] == "<3>ValueError: e"


def test_auto_is_journal_only_when_the_stream_is_the_journals(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w+") as stream:
        stat = os.fstat(stream.fileno())
        theirs = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        assert is_journal(stream, theirs)
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino + 1}"})
        assert not is_journal(stream, {})
        assert not is_journal(io.StringIO(), theirs)
        set_up_logging("info", "auto", stream, theirs)
        log.info("x")
        set_up_logging("info", "auto", stream, {})
        log.info("y")
        stream.seek(0)
        first, second = stream.read().splitlines()
    assert first == "<6>mdfeed.test: x"
    assert second.endswith("info mdfeed.test: y")


def test_repeats_are_folded_and_counted() -> None:
    fold = Fold()
    assert fold.filter(record("gap", 100.0))
    assert not any(fold.filter(record("gap", 100.0 + i / 10)) for i in range(1, 37))
    assert fold.filter(record("other", 101.0))
    late = record("gap", 110.0)
    assert fold.filter(late)
    assert late.getMessage() == "gap (x37 in 10 s)"
    calm = record("gap", 130.0)
    assert fold.filter(calm)
    assert calm.getMessage() == "gap"


def test_what_was_held_back_is_said_though_no_repeat_comes_any_more() -> None:
    fold = Fold()
    for tenth in range(38):
        fold.filter(record(f"gap after {5123107839020 + tenth}", 100.0 + tenth / 10))
    fold.filter(record("other", 104.0))
    assert list(fold.ended(109.9)) == []
    said = list(fold.ended(112.0))
    assert [(each.getMessage(), each.levelname, each.name) for each in said] == [
        ("gap after 5123107839057 (x37 in 10 s)", "WARNING", "mdfeed")
    ]
    assert list(fold.ended(130.0)) == []
    # Repeats that go on are one line in ten seconds, not one plain and one counted.
    assert not fold.filter(record("gap after 5123107839999", 113.0))
    assert [each.getMessage() for each in fold.ended(122.0)] == ["gap after 5123107839999"]


def test_the_handler_says_it_with_the_next_record_when_asked_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdfeed.logs.FOLD_S", 0.05)
    stream = written("text")
    for _ in range(3):
        log.warning("gap")
    time.sleep(0.06)
    log.info("other")
    assert [line.rpartition(": ")[2] for line in stream.getvalue().splitlines()] == ["gap", "gap (x2 in 0 s)", "other"]
    for _ in range(3):
        log.warning("gap again")
    time.sleep(0.06)
    say_folded()
    assert stream.getvalue().splitlines()[-1].endswith("gap again (x2 in 0 s)")
    monkeypatch.setattr("mdfeed.logs.FOLD_S", 10.0)
    for _ in range(5):
        log.error("last")
    logging.getLogger().handlers[0].close()
    assert stream.getvalue().splitlines()[-1].endswith("last (x4 in 10 s)")


def test_ids_and_measures_do_not_make_a_message_new_but_names_do() -> None:
    fold = Fold()
    texts = ["BTCUSDT gap after 5123107839020", "BTCUSDT gap after 5123107839077", "ETHUSDT gap after 5123107839077"]
    assert [fold.filter(record(text, 100.0)) for text in texts] == [True, False, True]
    assert [fold.filter(record(f"line {name} up in {0.1 * name:.2f} s", 100.0)) for name in (1, 2)] == [True, True]
    last = record("BTCUSDT gap after 5123107839099", 111.0)
    assert fold.filter(last)
    assert last.getMessage() == "BTCUSDT gap after 5123107839099 (x2 in 11 s)"


def test_a_clock_that_steps_back_silences_nothing_and_memory_is_bounded() -> None:
    fold = Fold()
    assert fold.filter(record("gap", 1000.0))
    assert fold.filter(record("gap", 400.0))
    for index in range(3 * FOLD_KEYS):
        fold.filter(record(f"message {index // 100}-{index % 100}", 500.0))
    assert len(fold.seen) == FOLD_KEYS


def test_secrets_are_masked_in_messages_and_other_libraries_are_quiet() -> None:
    stream = written("text")
    log.error("cannot reach %s", "rediss://:hunter2@h:6379/0")
    logging.getLogger("websockets.server").info("connection open")
    assert "rediss://:***@h:6379/0" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    assert "connection open" not in stream.getvalue()
