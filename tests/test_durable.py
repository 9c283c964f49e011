"""Files that are complete or absent, and journals that lose at most an incomplete last record."""

import os

import pytest

from windrow.durable import Journal, read_journal, write_whole

RECORDS = [{"a": 1}, {"text": "é\n\ud800"}, [-1.5, True], {"float": -float("inf")}]


def journal(path, records=RECORDS):
    made = Journal(path)
    for record in records:
        made.append(record)
    made.sync()
    made.close()
    return path.read_bytes()


def test_records_round_trip(tmp_path):
    path = tmp_path / "journal"
    journal(path)
    assert list(read_journal(path)) == RECORDS
    journal(path, [7])
    assert list(read_journal(path)) == [*RECORDS, 7]
    assert list(read_journal(tmp_path / "none")) == []


def test_incomplete_last_record_is_dropped_at_any_byte(tmp_path):
    path = tmp_path / "journal"
    whole = journal(path)
    ends = [at + 1 for at, byte in enumerate(whole) if byte == 10]
    assert len(ends) == len(RECORDS)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        count = sum(end <= size for end in ends)
        assert list(read_journal(path)) == RECORDS[:count]
        journal(path, ["next"])
        assert list(read_journal(path)) == [*RECORDS[:count], "next"]


def test_flipped_bit_loses_only_its_record(tmp_path):
    path = tmp_path / "journal"
    whole = bytearray(journal(path))
    for at in range(whole.index(b"\n")):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        opened = Journal(path)
        assert (list(opened.records()), opened.damaged) == (RECORDS[1:], 1)
        opened.close()


def test_deleted_journal_is_not_synced(tmp_path):
    opened = Journal(tmp_path / "journal")
    opened.append(1)
    opened.path.unlink()
    with pytest.raises(FileNotFoundError, match="it has been deleted"):
        opened.sync()
    opened.close()


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"before")

    def full(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"after")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"before"
