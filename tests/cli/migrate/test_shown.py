from pathlib import Path

from micro_framework.cli.migrate.shown import diff_of, note_lines, report_lines
from micro_framework.migration.grading import Report
from micro_framework.migration.rewriting import Rewritten


def test_a_file_without_a_last_line_end_makes_a_diff_that_patch_takes():
    diff = diff_of(Rewritten(Path("a.py"), "import nameko", "import nameko_compat"))
    assert diff.endswith(
        "-import nameko\n\\ No newline at end of file\n+import nameko_compat\n\\ No newline at end of file\n"
    )


def test_notes_name_file_and_line():
    assert list(note_lines(Rewritten(Path("a.py"), "", "", [(3, "look")]))) == ["a.py:3: look"]


def test_files_that_could_not_be_read_are_counted():
    *_, (last, _) = report_lines(Report(unreadable={"a.py": "is Python 2"}, files=2))
    assert last.endswith("1 of 2 files could not be read")
