"""Evaluates a Flax NNX model at each checkpoint during training, and compiles only for the first.

The model is trained on a mesh of four CPU devices, with its weights split over two of them. Orbax saves and
restores the parameters; ``JaxLM.with_params`` evaluates them where the training step placed them.
"""

import tempfile

import jax
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import windrow
from flax_nnx import Transformer, language_model, train_step, training_rows
from sayings import END, byte_tokenizer, evaluate

jax.config.update("jax_num_cpu_devices", 4)
STEPS, STEPS_EACH = 120, 20
MESH = jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)


def sharding(leaf: jax.Array) -> NamedSharding:
    """Splits matrices with an even number of columns over ``tensor``; everything else is on every device."""
    columns = "tensor" if leaf.ndim > 1 and leaf.shape[-1] % 2 == 0 else None
    return NamedSharding(MESH, PartitionSpec(*[None] * (leaf.ndim - 1), *[columns] * (leaf.ndim > 0)))


def split(leaf: jax.Array) -> jax.Array:
    return jax.device_put(leaf, sharding(leaf))


def constrained(leaf: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(leaf, sharding(leaf))


def placed_alike(params, others) -> bool:
    """Whether all arrays have the same shardings as the others."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True)
    return all(one.sharding.is_equivalent_to(other.sharding, one.ndim) for one, other in pairs)


@nnx.jit
def sharded_step(model, optimizer, rows):
    """A training step that keeps the shardings of the parameters."""
    loss = train_step(model, optimizer, rows)
    nnx.update(model, jax.tree.map(constrained, nnx.state(model)))
    return loss


def drawn(step: int, loss: float, right: float) -> str:
    """A line of the two curves."""
    bars = "▒" * round(4 * loss), "█" * round(24 * right)
    return f"step {step:3}  loss {loss:5.2f} {bars[0]:24} right {right:.2f} {bars[1]}"


def main() -> None:
    tokenizer, model = byte_tokenizer(), Transformer(nnx.Rngs(jax.random.key(0)))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    for part in (model, optimizer):
        nnx.update(part, jax.tree.map(split, nnx.state(part)))
    rows = jax.device_put(training_rows(tokenizer), NamedSharding(MESH, PartitionSpec("data")))
    lm = windrow.JaxLM(language_model(model), tokenizer, prefix_token_id=END)
    first = jax.tree.leaves(nnx.state(model))
    compiled, curves = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    with tempfile.TemporaryDirectory() as folder, ocp.CheckpointManager(folder) as manager:
        for step in range(STEPS + 1):
            loss = sharded_step(model, optimizer, rows)
            if step % STEPS_EACH:
                continue
            params = nnx.state(model)
            manager.save(step, args=ocp.args.StandardSave(params))
            manager.wait_until_finished()
            restored = manager.restore(step, args=ocp.args.StandardRestore(params))
            assert placed_alike(params, first)
            assert placed_alike(restored, first)
            compiled.clear()
            right = evaluate(lm.with_params(restored))
            assert not (step and compiled), compiled
            curves.append(drawn(step, float(loss), right))
    print(*curves, sep="\n")
    print(f"{len(curves)} evaluations; after the first, no programs were compiled")


if __name__ == "__main__":
    main()
