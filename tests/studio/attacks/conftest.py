"""An attack that succeeds is shown with what it found, though its file is no file of tests."""

from __future__ import annotations

import pytest

KINDS = ("outside", "signing_in", "rights", "sent", "shown")

pytest.register_assert_rewrite(*(f"tests.studio.attacks.{kind}" for kind in KINDS))
