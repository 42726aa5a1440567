"""One network that has lost the other for good is told once; healthy ones never."""

import numpy as np
import pytest

from dscgan_jax.training import balance
from dscgan_jax.training.balance import ADVICE, LONG, LOST, WON, Balance


def row(step, real, fake):
    return {"step": step, "accuracy_real": real, "accuracy_fake": fake}


def followed(pairs, before=()):
    """What is added to each row, and what is told."""
    told = []
    one = Balance(before, told.append)
    return [one.add(step, row(step, *pair)) for step, pair in enumerate(pairs, start=1)], told


@pytest.mark.parametrize(("pair", "name"), [((1.0, 0.99), WON), ((0.0, 1.0), LOST), ((0.51, 0.5), LOST)])
def test_from_the_last_of_so_many_rows_on_it_is_recorded_and_told_once(pair, name):
    added, told = followed([(0.6, 0.7), *[pair] * (LONG + 2)])
    assert added == [{}] * LONG + [{name: 1.0}] * 3
    assert len(told) == 1 and told[0].startswith(f"warning: step {LONG + 1}: the discriminator") and ADVICE in told[0]


def test_healthy_networks_are_left_alone():
    rng = np.random.default_rng(0)
    near_chance = [(0.5 + one, 0.5 + other) for one, other in 0.1 * rng.standard_normal((200, 2))]
    for pairs in (near_chance, [(1.0, 1.0)] * (LONG - 1) + [(0.9, 1.0)], [(0.9, 0.95)] * 50):
        assert followed(pairs) == ([{}] * len(pairs), [])


def test_a_run_that_goes_on_records_what_one_that_never_stopped_does():
    pairs = [(1.0, 1.0)] * (LONG + 5)
    rows = [row(step, *pair) for step, pair in enumerate(pairs[:7], start=1)]
    assert followed(pairs[7:], rows)[0] == followed(pairs)[0][7:]


def test_without_a_discriminator_there_is_nothing_to_say():
    one = Balance(tell=pytest.fail)
    assert all(one.add(step, {"loss_l1": 0.5}) == {} for step in range(2 * LONG))


def test_a_page_says_from_where_to_where():
    rows = [row(20 * step, 1.0, 1.0) for step in range(1, 4)]
    assert balance.sentences(rows) == []
    rows[1][WON] = rows[2][WON] = 1.0
    assert len(balance.sentences(rows)) == 1 and "from step 40 to step 60" in balance.sentences(rows)[0]
