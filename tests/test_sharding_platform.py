"""If there are only CPUs, only the CPU implementation is traced."""

import jax
import jax.numpy as jnp

from windrow.sharding.platform import by_platform


def doubled():
    """A new function, which JAX has not traced yet."""
    return lambda x: by_platform(x, default=lambda x: x + x, cpu=lambda x: x * 2)


def test_only_the_cpu_implementation_is_traced():
    assert "platform_index" not in str(jax.make_jaxpr(doubled())(jnp.ones(3)))
    only_default = jax.make_jaxpr(lambda x: by_platform(x, default=jnp.sin, tpu=jnp.cos))(jnp.ones(3))
    assert "sin" in str(only_default)
    assert "cos" not in str(only_default)


def test_other_platforms_choose_at_run_time(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "platform_index" in str(jax.make_jaxpr(doubled())(jnp.ones(3)))
    assert doubled()(jnp.ones(3)).tolist() == [2, 2, 2]
