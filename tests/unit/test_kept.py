"""What is kept over a restart: the folder, the venue's own file, and two daemons that share it."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from mdfeed.config import load_config
from mdfeed.errors import ConfigError
from mdfeed.governor import Governor
from mdfeed.kept import Kept, WeightFile, file_of, open_folder, state_folder
from mdfeed.refusals import of_status

NOW = 1_700_000_000 * 10**9


@pytest.mark.parametrize(
    ("configured", "environ", "folder"),
    [
        ("/a", {"STATE_DIRECTORY": "/s", "XDG_STATE_HOME": "/x"}, "/a"),
        ("none", {"STATE_DIRECTORY": "/s"}, None),
        ("None", {}, None),
        (None, {"STATE_DIRECTORY": "/s:/t", "XDG_STATE_HOME": "/x"}, "/s"),
        (None, {"XDG_STATE_HOME": "/x"}, "/x/mdfeed"),
        (None, {"XDG_STATE_HOME": "relative"}, "HOME/.local/state/mdfeed"),
        (None, {}, "HOME/.local/state/mdfeed"),
    ],
)
def test_the_folder(monkeypatch, tmp_path, configured, environ, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = None if folder is None else Path(folder.replace("HOME", str(tmp_path)))
    assert state_folder(configured, environ) == expected


def test_none_is_a_word_in_a_file_too_and_names_no_folder(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("state_dir: none\n")
    assert open_folder(load_config(path, None, {})) is None
    path.write_text("state_dir: kept\n")
    assert open_folder(load_config(path, None, {})) == tmp_path / "kept"


def test_a_default_folder_that_cannot_be_made_is_done_without(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert open_folder(load_config(None, None, {})) is None
    assert len(caplog.records) == 1
    with pytest.raises(ConfigError, match=r"state_dir: .*Not a directory"):
        open_folder(load_config(None, {"state_dir": str(tmp_path / "file/x")}, {}))


def test_each_host_and_port_has_a_file_of_its_own():
    urls = [
        "https://fapi.binance.com",
        "https://dapi.binance.com",
        "http://fapi.binance.com",
        "http://127.0.0.1:8001",
        "http://127.0.0.1:8002/x",
        "http://[::1]:8001",
    ]
    names = [file_of(Path(), url).name for url in urls]
    assert names[0] == "weight-fapi.binance.com-443.json"
    assert names[5] == "weight-__1-8001.json"
    assert len(set(names)) == len(urls)
    assert file_of(Path(), "https://FAPI.binance.com:443/").name == names[0]


def test_the_longer_ban_stays_and_is_heeded(tmp_path):
    path = tmp_path / "w.json"
    one, other = (Governor(now_ns=lambda: NOW, state_file=path) for _ in range(2))
    one.stop(of_status(418, {"retry-after": "300"}))
    other.settle(5, said=70)  # it knows nothing of the ban
    assert 299 < Governor(now_ns=lambda: NOW, state_file=path).blocked_s <= 300
    assert 299 < other.blocked_s <= 300
    assert 299 < other.no_dial_s <= 300
    other.stop(of_status(429, {"retry-after": "5"}))
    assert other.block.reason == "banned"
    third = Governor(now_ns=lambda: NOW, state_file=path)
    assert (third.weight_used, third.block.reason) == (70, "banned")


def test_weight_of_the_same_minute_is_the_highest(tmp_path):
    file = WeightFile(tmp_path / "w.json", lambda: NOW)
    assert file.save(Kept(7, 50)) == Kept(7, 50)
    assert file.save(Kept(7, 20)) == Kept(7, 50)
    assert file.save(Kept(8, 20)) == Kept(8, 20)
    assert [found.name for found in tmp_path.iterdir()] == ["w.json"]


def _write_many(path: Path, number: int) -> None:
    file = WeightFile(path, lambda: NOW)
    for n in range(200):
        until = NOW + (900 * 10**9 if (number, n) == (1, 50) else 10**9)
        while file.save(Kept(1, n, until, "banned", "x")) is None:
            pass


def test_writers_at_once_lose_no_ban(tmp_path):
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "w.json"
    writers = [context.Process(target=_write_many, args=(path, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert json.loads(path.read_bytes())["blocked_until"] == NOW + 900 * 10**9


def test_a_write_that_fails_is_tried_again(tmp_path, caplog):
    caplog.set_level("INFO")
    governor = Governor(now_ns=lambda: NOW, state_file=tmp_path / "later" / "w.json")
    for said in (5, 10):
        governor.settle(5, said=said)
    assert len(caplog.records) == 1
    (tmp_path / "later").mkdir()
    governor.settle(5, said=15)
    assert json.loads((tmp_path / "later/w.json").read_bytes())["used"] == 15
    held = os.open(tmp_path / "later", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    governor.settle(5, said=20)
    os.close(held)
    assert json.loads((tmp_path / "later/w.json").read_bytes())["used"] == 15
    governor.stop(of_status(418, {"retry-after": "60"}))
    assert json.loads((tmp_path / "later/w.json").read_bytes())["reason"] == "banned"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING", "INFO"]
