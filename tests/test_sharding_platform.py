"""Only the implementation for CPUs is traced if there are only CPUs."""

import jax
import jax.numpy as jnp

from windrow.sharding.platform import by_platform


def doubled():
    """A function that JAX has not traced before."""
    return lambda x: by_platform(x, default=lambda x: x + x, cpu=lambda x: x * 2)


def test_only_the_way_for_cpus_is_traced():
    assert "platform_index" not in str(jax.make_jaxpr(doubled())(jnp.ones(3)))
    only_default = jax.make_jaxpr(lambda x: by_platform(x, default=jnp.sin, tpu=jnp.cos))(jnp.ones(3))
    assert "sin" in str(only_default)
    assert "cos" not in str(only_default)


def test_other_platforms_have_the_choice(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "platform_index" in str(jax.make_jaxpr(doubled())(jnp.ones(3)))
    assert doubled()(jnp.ones(3)).tolist() == [2, 2, 2]
