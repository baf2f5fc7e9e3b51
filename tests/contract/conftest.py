"""The contract's asserts show their values, though the suite is no test module itself."""

import pytest

pytest.register_assert_rewrite("tests.contract.suite")
