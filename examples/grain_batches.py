"""Planned batches as a Grain dataset, for your own evaluation loop.

A request has a prefix and a text; lm_eval is not needed. The dataset is an ordinary ``grain.MapDataset`` that
can be sliced, mapped, prefetched and checkpointed.
"""

import grain
import jax
import jax.numpy as jnp
import numpy as np

import windrow
from sayings import END, SAYINGS, VOCABULARY, byte_tokenizer
from windrow.tokens import load_tokenizer


@jax.jit
def token_logprobs(table, batch):
    """Log-probability of every scored token, ``float32[groups, reads]``."""
    logits = table[batch.inputs]
    picked = jax.nn.log_softmax(logits.reshape(-1, VOCABULARY)[batch.pick_index[0]])
    return picked[batch.read_pick, batch.read_target]


def main() -> None:
    table = jax.random.normal(jax.random.key(0), (VOCABULARY, VOCABULARY))
    requests = [{"prefix": beginning, "text": f" {end}"} for beginning, end in SAYINGS]
    tokenizer = load_tokenizer(byte_tokenizer(), prefix_token_id=END)
    dataset = windrow.evaluation_dataset(requests, tokenizer, batch_size=8, max_shapes=2)
    print(dataset.plan)

    totals = np.zeros(len(requests) + 1)  # the last entry collects padding, whose request is -1
    batches = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    for batch in batches:
        scores = token_logprobs(table, batch)
        np.add.at(totals, batch.read_request, scores)

    model = windrow.LanguageModel(table, lambda table, tokens, *_: table[tokens])
    pairs = [(request["prefix"], request["text"]) for request in requests]
    expected = windrow.score(model, tokenizer, pairs).log_likelihoods
    np.testing.assert_allclose(totals[:-1], expected, rtol=1e-5)
    print(f"perplexity per byte: {jnp.exp(-totals[:-1].sum() / sum(len(text) for _, text in pairs)):.1f}")


if __name__ == "__main__":
    main()
