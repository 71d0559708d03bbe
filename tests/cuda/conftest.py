"""What these tests share with those of training."""

from tests.training.conftest import encoder, make_rows, plan_for

__all__ = ["encoder", "make_rows", "plan_for"]
