#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the end-to-end scenarios against build/lymer (or $LYMER): run.py [-l] [PATTERN…]. TAP on stdout."""
import importlib
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib  # noqa: E402

for file in sorted(os.listdir(os.path.dirname(os.path.abspath(__file__)))):
    if file.startswith("test_") and file.endswith(".py"):
        importlib.import_module(file[:-3])

patterns = [a for a in sys.argv[1:] if not a.startswith("-")]
chosen = [s for s in lib.SCENARIOS
          if not patterns or any(p in f"{s.__module__}:{s.__name__}" for p in patterns)]
if "-l" in sys.argv:
    for s in chosen:
        print(f"{s.__module__}:{s.__name__}")
    sys.exit(0)
passed = failed = skipped = 0
for number, s in enumerate(chosen, 1):
    begun = time.monotonic()
    try:
        s()
        passed += 1
        print(f"ok {number} - {s.__module__}: {s.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
    except lib.Skipped as why:
        skipped += 1
        print(f"ok {number} - {s.__module__}: {s.__name__} # SKIP {why}", flush=True)
    except Exception as e:  # every failure is reported and counted
        failed += 1
        said = str(e) if isinstance(e, lib.Failed) else traceback.format_exc()
        print("\n".join("# " + line for line in said.splitlines()))
        print(f"not ok {number} - {s.__module__}: {s.__name__}", flush=True)
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(1 if failed or not passed else 0)
