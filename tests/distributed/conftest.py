"""The rows and plans of the tests of training serve these, too."""

from tests.training.conftest import encoder, make_rows, plan_for

__all__ = ["encoder", "make_rows", "plan_for"]
