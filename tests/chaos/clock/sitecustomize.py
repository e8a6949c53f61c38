"""Gives compute, and nobody else of a cloud under test, a clock that the test can shift; and loads
a mutant, where the run is about one.

Python reads this before anything else where the test has set PYTHONPATH.
"""

import os
import sys

_LIBRARY = os.environ.get("CHAOS_CLOCK_LIBRARY", "")

if _LIBRARY and "services.compute" in sys.orig_argv and "LD_PRELOAD" not in os.environ:
    os.environ["LD_PRELOAD"] = _LIBRARY
    os.environ["FAKETIME_TIMESTAMP_FILE"] = os.environ["CHAOS_CLOCK_FILE"]
    os.environ["FAKETIME_CACHE_DURATION"] = "1"
    # A shifted clock is a wrong time of day; monotonic time goes on as on any machine.
    os.environ["FAKETIME_DONT_FAKE_MONOTONIC"] = os.environ["DONT_FAKE_MONOTONIC"] = "1"
    os.execv(sys.executable, sys.orig_argv)  # the same program with another clock

if os.environ.get("CHAOS_MUTANT"):
    from tests.chaos.mutants import load

    load(os.environ["CHAOS_MUTANT"], sys.orig_argv)
