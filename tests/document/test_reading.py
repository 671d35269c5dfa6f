"""Reading a file, and what is wrong with it in one sentence (of whole documents: test_multipliers, tests/tune)."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tpcalc.document.model import Row
from tpcalc.document.reading import parsed, sentence
from tpcalc.errors import ScalingError, TpcalcError


def test_a_file_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"ü": [1, 2.5, null]}', encoding="utf-8")
    assert parsed(tmp_path / "a.json", "write it again") == {"ü": [1, 2.5, None]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_a_windows_shell_wrote_is_read(tmp_path, encoding):
    (tmp_path / "a.json").write_text('{"ü":\r\n 1}', encoding=encoding, newline="")
    assert parsed(tmp_path / "a.json", "write it again") == {"ü": 1}


@pytest.mark.parametrize(
    "content, reason",
    [
        (b'{"a": ', "Expecting value: line 1 column 7 (char 6)"),
        (b"[NaN]", "NaN is no number of JSON"),
        (b"[-Infinity]", "-Infinity is no number of JSON"),
        (b"\xff{}", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"[" * 200_000, "nested too deeply"),
    ],
)
def test_a_corrupt_one_is_refused(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(TpcalcError) as caught:
        parsed(tmp_path / "a.json", "write it again")
    assert str(caught.value) == f"{tmp_path / 'a.json'} is corrupt ({reason}); write it again"


def test_a_missing_one_is_refused_with_the_error_that_is_asked_for(tmp_path):
    with pytest.raises(ScalingError, match=r"^cannot read .*nowhere: No such file or directory; check the path$"):
        parsed(tmp_path / "nowhere", "write it again", ScalingError)


class Inner(Row):
    count: int


class Outer(Row):
    rows: list[Inner]


@pytest.mark.parametrize(
    "content, where",
    [
        ({}, "at top level: 'rows' is missing"),
        ({"rows": [{"count": 1}, {}]}, "at rows[1]: 'count' is missing"),
        ({"rows": [{"count": 4.5}]}, "at rows[0].count: 4.5 is no whole number"),
        ({"rows": [{"count": "x" * 99}]}, f"at rows[0].count: '{'x' * 36}... is no whole number"),
        ({"rows": 7}, "at rows: 7 should be a valid list"),
    ],
)
def test_the_sentence_names_the_place(content, where):
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(content)
    (error,) = caught.value.errors(include_url=False)
    assert sentence(error, "v/1", "again") == f"breaks the schema v/1 {where}; again"
