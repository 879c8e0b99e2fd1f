"""Random tests only report at the end how many examples each has tried."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import structlog


@pytest.fixture(autouse=True)
def _quiet(_logs_as_at_the_start: None) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = [
        (report.nodeid.rpartition("::")[2], dict(report.user_properties)["outcomes"], report.duration)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call" and "outcomes" in dict(report.user_properties)
    ]
    if rows:
        terminalreporter.section("random tests")
    for name, outcomes, seconds in sorted(rows, key=lambda row: row[0]):
        tried, refused = outcomes.get("tried", 0), outcomes.get("refused", 0)
        terminalreporter.write_line(f"{tried:9,} examples, {refused:9,} refusals, {seconds:5.0f} s  {name}")
