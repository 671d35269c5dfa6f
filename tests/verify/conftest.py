"""With TRY_FIXES=1 (make slow) the fixes of every report made in this folder are tried.

Those of all set-ups are always (test_tried.py).
"""

from __future__ import annotations

import os

import pytest

from tpcalc.verify import report
from tpcalc.verify.case import Case
from tpcalc.verify.findings import ERROR, Report


def reverses(before: Report, after: Report) -> list[str]:
    """What is found ``after`` fixes, and asks for the reverse of one of them."""
    made = {(fix.target, fix.quantity): fix.by for finding in before.findings for fix in finding.fixes}
    asked = ((fix.target, fix.quantity, fix.by) for finding in after.findings for fix in finding.fixes)
    return [
        f"{target}: {quantity}"
        for target, quantity, by in asked
        if by is not None and (had := made.get((target, quantity))) is not None and (had < 0) != (by < 0)
    ]


@pytest.fixture(autouse=True)
def fixes_work(monkeypatch):
    """The fixes of every failing setup that a test verifies, applied, leave no error and nothing that reverses one.

    What is unstable has an error.
    """
    if os.environ.get("TRY_FIXES") != "1":
        return
    report_of = report.report_of

    def tried(case: Case, name: str) -> Report:
        found = report_of(case, name)
        assert found.errors or found.regime != "unstable", f"unstable, and no error says why:\n{found}"
        fixes = [fix for finding in found.findings for fix in finding.fixes]
        if fixes:
            after = report_of(case.with_(fixes), name)
            assert not [f for f in after.findings if f.severity == ERROR], f"{found}\n\nafter all fixes:\n{after}"
            assert not reverses(found, after), f"{found}\n\nafter all fixes:\n{after}"
        return found

    monkeypatch.setattr(report, "report_of", tried)
