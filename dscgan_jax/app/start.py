"""Process set-up: compiled programs are kept, and a platform that was asked for must be there."""

import contextlib
import os

import ml_collections

from dscgan_jax.app import places
from dscgan_jax.errors import InputError
from dscgan_jax.files import name_unknown_owners


def set_up(config: ml_collections.ConfigDict) -> None:
    """Keeps compiled programs where there is a place for them, so that the second start is quick."""
    import jax  # which takes half a second: help, bad input and reading an exam do without

    name_unknown_owners()
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):  # otherwise JAX keeps them there
        with contextlib.suppress(InputError):  # whoever needs more of that folder refuses
            jax.config.update("jax_compilation_cache_dir", str(places.cache_dir(config) / "compiled"))
    if not os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        # JAX would keep none of less than a second, and each start would compile a second's worth of such programs.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    check_platform()


def check_platform() -> None:
    """Refuses a CPU where JAX_PLATFORMS asks for something else first: JAX would take it without a word.

    Raises:
      InputError: names the platform.
    """
    wanted = os.environ.get("JAX_PLATFORMS", "").split(",")[0]
    backend = {"cuda": "gpu", "rocm": "gpu", "gpu": "gpu", "tpu": "tpu"}.get(wanted)
    if backend is None:
        return
    import jax

    try:
        found = jax.default_backend()
    except Exception:  # without the driver JAX raises several kinds, an empty AssertionError among them
        found = "nothing"
    if found != backend:
        extra = "tpu" if wanted == "tpu" else "cuda"
        raise InputError(
            f"JAX_PLATFORMS asks for {wanted}, but JAX found {found}; look at the driver "
            f"(nvidia-smi) and at the installation (pip install 'dscgan_jax[{extra}]')."
        )
