"""Our reader of messages beside the library's: of what ours takes, both must take the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def test_of_every_message_that_we_take_the_library_reads_the_same_dialog_and_transaction() -> None:
    command = [sys.executable, "-m", "tests.integration.parsed", "11", "8000"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=True)
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["first"] == []
    assert told["both"] > 300
