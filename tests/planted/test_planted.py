"""Every planted bug has one place in today's source and changes the program.

`python -m tests.planted` proves that tests catch them.
"""

import ast
from pathlib import Path

import pytest

from tests.planted.__main__ import ROOT, planted
from tests.planted.bugs import BUGS, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_bug_has_one_place_and_changes_the_program(bug: Bug) -> None:
    source = (ROOT / "echonode" / bug.file).read_text()
    wrong = planted(source, bug)
    assert ast.dump(ast.parse(wrong)) != ast.dump(ast.parse(source))
    for where in bug.tests:
        assert Path(ROOT / "tests" / where).exists(), where


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 25


def test_a_bug_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="places for it"):
        planted("nothing of it here", BUGS[0])
