from __future__ import annotations

from collections import OrderedDict

import pytest

from gateway.sip.admission.newest import keep_newest

pytestmark = pytest.mark.unit


def test_the_oldest_entry_is_forgotten_and_one_that_is_put_in_again_is_the_newest() -> None:
    table: OrderedDict[str, int] = OrderedDict()
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        keep_newest(table, key, value, 2)
    assert table == OrderedDict(a=3, c=4)
