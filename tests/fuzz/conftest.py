"""The profiles of hypothesis: few examples in the ordinary tests, many in `make fuzz`.

AIOFS_FUZZ names the profile. Hypothesis shrinks a failing example and prints the line that repeats
it. Its database is under build/; the long form starts with the examples that failed before.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

ROOT = Path(__file__).resolve().parents[2]
TEST_SECONDS = 900  # shrinking an example runs it many times

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / "build" / "hypothesis"))
COMMON = {
    "deadline": None,
    "print_blob": True,
    # If a request hangs, the explain phase would take hours.
    "phases": [phase for phase in Phase if phase is not Phase.explain],
    # The fixtures that the examples of a test share keep no state of an example.
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
settings.register_profile("short", max_examples=20, database=None, **COMMON)
settings.register_profile("long", max_examples=100, **COMMON)
settings.load_profile(os.environ.get("AIOFS_FUZZ", "short"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))
