"""What contestants count with."""

import os
from pathlib import Path

from benchmarks.contestants.tally import Record, Recorded

NAMES = [f"{number:036}" for number in range(2500)]


def test_what_several_processes_note_is_read_once_each(tmp_path: Path) -> None:
    record, recorded = Record(str(tmp_path)), Recorded(tmp_path)
    assert recorded.look() == []
    record.handled(NAMES[0], 0.5)
    ((name, at, work),) = recorded.look()
    assert (name, work) == (NAMES[0], 0.5)
    if (child := os.fork()) == 0:
        for name in NAMES[1:]:
            record.handled(name)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    entries = list(recorded.look())
    assert [entry[0] for entry in entries] == NAMES
    assert at <= entries[1][1] <= entries[-1][1]
    assert recorded.look() == entries
    recorded.close()
