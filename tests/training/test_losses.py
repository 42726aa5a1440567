"""Losses against their formulas."""

import jax
import numpy as np
import pytest

from dscgan_jax.errors import InputError
from dscgan_jax.training import losses

LOGITS = np.float32([-2.0, 0.5, 3.0, 0.0]).reshape(2, 2, 1, 1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_adversarial_loss_is_the_cross_entropy_of_one_sigmoid():
    real = losses.adversarial(LOGITS, True, "logits")
    fake = losses.adversarial(LOGITS, False, "logits")

    np.testing.assert_allclose(real, -np.log(sigmoid(LOGITS)).mean((1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(fake, -np.log(1 - sigmoid(LOGITS)).mean((1, 2, 3)), rtol=1e-5)


def test_the_published_objective_has_two_sigmoids():
    undecided = np.zeros((1, 1, 1, 1), np.float32)
    np.testing.assert_allclose(losses.adversarial(undecided, True, "published"), [0.4741], atol=5e-5)
    np.testing.assert_allclose(losses.adversarial(undecided, False, "published"), [0.9741], atol=5e-5)


def test_an_unknown_objective_is_refused():
    with pytest.raises(InputError, match=r"config\.loss\.objective is 'hinge'"):
        losses.adversarial(LOGITS, True, "hinge")


def test_huge_logits_stay_finite():
    huge = np.full((1, 1, 1, 1), 1e4, np.float32)
    np.testing.assert_allclose(losses.adversarial(huge, False, "logits"), [1e4])


def test_accuracy_is_the_share_on_the_right_side():
    np.testing.assert_array_equal(losses.accuracy(LOGITS, True), [0.5, 0.5])
    np.testing.assert_array_equal(losses.accuracy(LOGITS, False), [0.5, 0.5])
    np.testing.assert_array_equal(losses.accuracy(np.full((1, 2, 2, 1), 3.0), True), [1.0])


def test_l1_is_the_mean_over_what_is_there():
    fake = np.zeros((2, 1, 2, 2), np.float32)
    target = np.float32([[[[1.0, np.nan], [2.0, np.nan]]], [[[3.0, 4.0], [5.0, 6.0]]]])
    has_map = np.array([[True, False], [True, True]])

    np.testing.assert_allclose(losses.l1(fake, target, has_map), (1 + 2 + 3 + 4 + 5 + 6) / 6)
    gradient = jax.grad(lambda fake: losses.l1(fake, target, has_map))(fake)
    np.testing.assert_allclose(gradient[0, 0], [[-1 / 6, 0.0], [-1 / 6, 0.0]])


def test_l1_of_nothing_is_zero():
    fake = np.ones((1, 2, 2, 1), np.float32)
    assert losses.l1(fake, np.full_like(fake, np.nan), np.array([[False]])) == 0.0


def test_a_pixel_counts_as_its_weight_says():
    fake, target = np.zeros((1, 1, 2, 1), np.float32), np.float32([[[[1.0], [3.0]]]])
    weight = np.float32([[[1.0, 0.5]]])
    assert losses.l1(fake, target, np.array([[True]]), weight=weight) == pytest.approx((1 + 1.5) / 1.5)
    assert losses.l1(fake, target, np.array([[True]]), weight=np.ones_like(weight)) == pytest.approx(2.0)
