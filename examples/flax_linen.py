"""A Flax Linen model in two halves, so that logits are only computed where they are needed.

``hidden`` returns the input of the head, and ``head`` returns the logits at positions picked from it. For
questions with a long context and short answers, that is a small fraction of all positions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import windrow
from sayings import SAYINGS, VOCABULARY, byte_tokenizer

WIDTH = 32


class Transformer(nn.Module):
    """A block with attention within segments, and a head."""

    def setup(self):
        self.tokens = nn.Embed(VOCABULARY, WIDTH)
        self.attention = nn.MultiHeadDotProductAttention(4)
        self.perceptron = nn.Sequential([nn.Dense(4 * WIDTH), nn.gelu, nn.Dense(WIDTH)])
        self.output = nn.Dense(VOCABULARY)

    def hidden(self, tokens, positions, segment_ids):
        same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        earlier = positions[:, None, :, None] >= positions[:, None, None, :]
        flow = self.tokens(tokens)
        flow = flow + self.attention(flow, mask=same & earlier)
        return flow + self.perceptron(flow)

    def head(self, picked):
        return self.output(picked)

    def __call__(self, tokens, positions, segment_ids):
        return self.head(self.hidden(tokens, positions, segment_ids))


def main() -> None:
    model = Transformer()
    params = jax.jit(model.init)(jax.random.key(0), *jnp.ones((3, 1, 8), jnp.int32))

    def hidden(params, tokens, positions, segment_ids):
        return model.apply(params, tokens, positions, segment_ids, method="hidden")

    def head(params, picked):
        return model.apply(params, picked, method="head")

    whole = windrow.LanguageModel(params, model.apply)
    halves = windrow.LanguageModel(params, model.apply, hidden=hidden, head=head)
    pairs = [(beginning, f" {end}") for beginning, end in SAYINGS]
    one = windrow.score(whole, byte_tokenizer(), pairs)
    other = windrow.score(halves, byte_tokenizer(), pairs)
    np.testing.assert_allclose(one.log_likelihoods, other.log_likelihoods, rtol=1e-5)
    for (beginning, end), score in zip(pairs[:3], other.log_likelihoods, strict=False):
        print(f"{score:9.3f}  {beginning}{end}")
    print("hidden and head give the same scores as apply")


if __name__ == "__main__":
    main()
