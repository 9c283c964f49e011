"""A model split over a mesh: rows over one axis, parameters over the other.

Eight CPU devices take the place of accelerators. The script only specifies the shardings of the parameters
and of the rows; the compiler does the rest.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import windrow
from sayings import SAYINGS, VOCABULARY, byte_tokenizer

WIDTH = 64
WHERE = {"embedding": P(None, "model"), "up": P(None, "model"), "down": P("model"), "head": P("model")}
"""How each matrix is split: the first two by columns, the others by rows."""


def init(key):
    keys = jax.random.split(key, 4)
    return {
        "embedding": jax.random.normal(keys[0], (VOCABULARY, WIDTH)),
        "up": jax.random.normal(keys[1], (WIDTH, 4 * WIDTH)) * WIDTH**-0.5,
        "down": jax.random.normal(keys[2], (4 * WIDTH, WIDTH)) * WIDTH**-0.5,
        "head": jax.random.normal(keys[3], (WIDTH, VOCABULARY)) * WIDTH**-0.5,
    }


def hidden(params, tokens, positions, segment_ids):
    """A running mean over the previous tokens, and an MLP."""
    sums = jnp.cumsum(params["embedding"][tokens], axis=1)
    flow = sums / (1 + positions[:, :, None].astype(jnp.float32))
    return flow + jax.nn.gelu(flow @ params["up"]) @ params["down"]


def head(params, picked):
    return picked @ params["head"]


def apply(params, tokens, positions, segment_ids):
    return head(params, hidden(params, tokens, positions, segment_ids))


def main() -> None:
    jax.config.update("jax_num_cpu_devices", 8)
    params = init(jax.random.key(0))
    pairs = [(beginning, f" {end}") for beginning, end in SAYINGS]

    def scores(params, mesh, spec):
        model = windrow.LanguageModel(params, apply, hidden=hidden, head=head)
        sharding = NamedSharding(mesh, spec)
        return windrow.score(model, byte_tokenizer(), pairs, sharding=sharding).log_likelihoods

    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))
    split = {name: jax.device_put(params[name], NamedSharding(mesh, WHERE[name])) for name in params}
    alone = scores(params, Mesh(np.array(jax.devices()[:1]), ("data",)), P("data"))
    sharded = scores(split, mesh, P("data"))
    np.testing.assert_allclose(alone, sharded, rtol=1e-5)
    shard = split["up"].addressable_shards[0].data.shape
    print(
        f"{mesh.size} devices: rows in {mesh.shape['data']} parts; each has {shard} of {params['up'].shape}"
    )
    print(f"largest difference from one device: {np.abs(alone - sharded).max():.1e} nats")


if __name__ == "__main__":
    main()
