"""Evaluates each checkpoint of a training run as it is saved, compiling only once.

Orbax saves and restores the parameters. ``JaxLM.with_params`` evaluates the same model
with the parameters of the next checkpoint, without recompiling.
"""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

import windrow
from sayings import END, TEXTS, VOCABULARY, byte_tokenizer, evaluate

WIDTH, CONTEXT, LENGTH = 64, 8, 64
STEPS, STEPS_EACH = 45, 15


def initial(key):
    """Embeddings of the last few bytes, one hidden layer, and a head."""
    keys = jax.random.split(key, 3)
    return {
        "embedding": jax.random.normal(keys[0], (CONTEXT, VOCABULARY, WIDTH)) * 0.1,
        "hidden": jax.random.normal(keys[1], (WIDTH, 4 * WIDTH)) * WIDTH**-0.5,
        "head": jax.random.normal(keys[2], (4 * WIDTH, VOCABULARY)) * 0.05,
    }


def apply(params, tokens, positions, segment_ids):
    flow = 0.0
    for back in range(CONTEXT):
        earlier = jnp.pad(tokens, ((0, 0), (back, 0)))[:, : tokens.shape[1]]
        flow += params["embedding"][back][jnp.where(positions >= back, earlier, END)]
    return jax.nn.gelu(jnp.tanh(flow) @ params["hidden"]) @ params["head"]


def training_rows(tokenizer):
    rows = np.full((len(TEXTS), LENGTH), END, np.int32)
    for row, text in zip(rows, TEXTS, strict=True):
        tokens = [END, *tokenizer.encode(text).ids]
        row[: len(tokens)] = tokens
    return rows


def trained(params, rows):
    """The step number and the parameters, every few steps."""
    optimizer = optax.adam(1e-2)
    positions = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), rows.shape)

    def loss(params):
        logits = apply(params, rows, positions, None)[:, :-1]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:])
        return losses.mean(where=rows[:, 1:] != END)

    @jax.jit
    def train_step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for step in range(STEPS + 1):
        if step % STEPS_EACH == 0:
            yield step, params
        params, state = train_step(params, state)


def main() -> None:
    tokenizer, params = byte_tokenizer(), initial(jax.random.key(0))
    lm = windrow.JaxLM(windrow.LanguageModel(params, apply), tokenizer, prefix_token_id=END)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    with tempfile.TemporaryDirectory() as folder, ocp.CheckpointManager(folder) as manager:
        for step, newest in trained(params, training_rows(tokenizer)):
            manager.save(step, args=ocp.args.StandardSave(newest))
            manager.wait_until_finished()
            restored = manager.restore(step, args=ocp.args.StandardRestore(newest))
            compiled.clear()
            right = evaluate(lm.with_params(restored))
            print(f"step {step}: {right:.2f} right, {len(compiled)} programs compiled")


if __name__ == "__main__":
    main()
