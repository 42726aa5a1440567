"""For what kind of device a program is traced."""

import types

import jax

from dscgan_jax import platforms


def test_it_is_that_which_was_told_else_the_default_device_else_that_of_the_machine(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert platforms.traced_for() == "gpu" and not platforms.on_cpu()
    with jax.default_device(jax.devices("cpu")[0]):
        assert platforms.on_cpu()
        with platforms.tracing_for(platforms.ACCELERATOR):
            assert not platforms.on_cpu()
    assert not platforms.on_cpu()


def test_a_default_device_may_be_named(monkeypatch):
    monkeypatch.setattr(jax, "config", types.SimpleNamespace(jax_default_device="cpu"))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert platforms.on_cpu()
