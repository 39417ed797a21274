"""docs/papers.md: each row has a verdict, what it names exists, and its numbers stand on the page it leads to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/papers.md"
HEADER = ["what", "where", "command", "found here", "verdict"]
NAMES = ("what", "where", "command", "result", "verdict")
NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?")


def cells(line):
    return [cell.strip() for cell in line.strip("|\n ").split(" | ")]


def tables():
    """Every table as its header and its rows."""
    blocks = re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE)
    return [(cells(lines[0]), [cells(line) for line in lines[2:]]) for lines in map(str.splitlines, blocks)]


VERDICTS = {row[0] for row in tables()[0][1]}
ROWS = [pytest.param(*row, id=row[0]) for header, rows in tables()[1:] for row in rows if len(row) == len(HEADER)]


def test_every_paper_has_a_table_of_whole_rows():
    papers = tables()[1:]
    assert len(papers) == 3
    for header, rows in papers:
        assert header == HEADER
        assert not [row for row in rows if len(row) != len(HEADER)]
        assert len({row[0] for row in rows}) == len(rows)


@pytest.mark.parametrize(NAMES, ROWS)
def test_a_row_names_what_exists(what, where, command, result, verdict):
    assert verdict in VERDICTS
    files = re.findall(r"`([^`]+)`", where)
    assert files or where == "–"
    assert not [file for file in files if not (ROOT / file).exists()]
    script = re.match(r"`python ([^\s`]+)", command)
    assert command == "–" or command.startswith("`arena-jax ") or (ROOT / script[1]).is_file()
    if verdict in ("built", "held", "refuted"):
        assert files


def numbers(text):
    return set(NUMBER.findall(text.replace("−", "-").replace("–", " ")))


@pytest.mark.parametrize(NAMES, ROWS)
def test_a_number_stands_where_its_row_leads(what, where, command, result, verdict):
    links = re.findall(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#]+)[^)]*\)", result)
    assert links or verdict not in ("held", "refuted")
    table = numbers((ROOT / "benchmarks/RESULTS.md").read_text())
    for text, link in links:
        page = numbers((PAGE.parent / link).read_text())
        assert not {number for number in numbers(text) if number not in page | table}
