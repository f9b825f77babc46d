"""Work done ahead keeps its order, its errors and its limit."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from ne_basicsr.utils.ahead import ahead


def test_results_come_in_order_and_no_more_than_so_many_items_are_taken_ahead():
    taken, most = [], 0
    with ThreadPoolExecutor(4) as pool:
        items = (taken.append(i) or i for i in range(9))
        for number, (item, future) in enumerate(ahead(pool, lambda x: x * x, items, 3)):
            assert (item, future.result()) == (number, number**2)
            most = max(most, len(taken) - number)
    assert most == 3 and taken == list(range(9))


def test_an_error_is_that_of_its_item_and_the_others_go_on():
    with ThreadPoolExecutor(1) as pool:
        first, second = ahead(pool, lambda x: 1 / x, [0, 2], 2)
    with pytest.raises(ZeroDivisionError):
        first[1].result()
    assert second == (2, second[1]) and second[1].result() == 0.5
