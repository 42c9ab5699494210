#!/usr/bin/env python3
"""sdk/test_errand.py, counted as tools/test.sh counts."""

import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "sdk"))

if __name__ == "__main__":
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(
        unittest.defaultTestLoader.loadTestsFromName("test_errand"))
    failed = len(result.errors) + len(result.failures)
    skipped = sum(isinstance(test, unittest.TestCase) for test, _ in result.skipped)  # not those of a class as a whole
    print("%d passed, %d failed" % (result.testsRun - failed - skipped, failed))
    sys.exit(1 if failed or not result.testsRun else 0)
