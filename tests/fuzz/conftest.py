"""How hard hypothesis tries: a few examples in the ordinary tests, many by `make fuzz`.

AIOFS_FUZZ names the profile. A failure is made small, and ends with the line that repeats it. What
hypothesis keeps (of the long form also the examples that failed, to begin with them the next time)
is under build/.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

ROOT = Path(__file__).resolve().parents[2]
TEST_SECONDS = 900  # making an example small takes many runs of it

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / "build" / "hypothesis"))
COMMON = {
    "deadline": None,
    "print_blob": True,
    # Explaining would take hours where a request hangs.
    "phases": [phase for phase in Phase if phase is not Phase.explain],
    # Fixtures that a test shares among its examples hold nothing of an example's.
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
