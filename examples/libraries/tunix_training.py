# /// script
# requires-python = ">=3.11"
# dependencies = ["windrow", "google-tunix==0.1.7"]
#
# [tool.uv.sources]
# windrow = { path = "../.." }
# ///
"""Evaluates a Llama during training in tunix, from a hook of the trainer, and compiles only once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from lm_eval.api.instance import Instance
from tokenizers import Tokenizer
from tunix.sft.hooks import TrainingHooks
from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig, TrainingInput

import windrow
from comparison import FOLDER
from tunix_llama import language_model, load

PAIRS = [
    ("Rain before seven,", " fine by eleven."),
    ("Oak before ash,", " we shall have a splash."),
    ("Red sky at night,", " sailor's delight."),
]
LENGTH, STEPS, STEPS_EACH = 48, 60, 10


class Evaluation(TrainingHooks):
    """Every few steps, shows the training loss and the fraction of greedy continuations."""

    def __init__(self, lm: windrow.JaxLM) -> None:
        self.lm, self.compiled, self.lines = lm, [], []
        self.requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(PAIRS)]
        jax.monitoring.register_event_duration_secs_listener(
            lambda event, *_, **__: self.compiled.append(event) if "backend_compile" in event else None
        )

    def on_train_step_end(self, train_ctx, train_step, train_loss):
        if train_step % STEPS_EACH:
            return
        self.compiled.clear()
        lm = self.lm.with_params(nnx.state(train_ctx.model))
        right = np.mean([greedy for _, greedy in lm.loglikelihood(self.requests)])
        assert not (self.lines and self.compiled), self.compiled
        loss, bar = float(train_loss), "█" * round(24 * right)
        self.lines.append(f"step {train_step:3}  loss {loss:5.2f}  right {right:.2f} {bar}")

    def on_train_start(self, train_ctx):
        """Required: every hook must exist."""

    on_train_end = on_train_step_start = on_eval_step_start = on_train_start

    def on_eval_step_end(self, train_ctx, eval_loss):
        """The trainer's own evaluation is not used."""


def training_input() -> TrainingInput:
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokens, mask = np.zeros((len(PAIRS), LENGTH), np.int32), np.zeros((len(PAIRS), LENGTH), bool)
    for row, pair in enumerate(PAIRS):
        ids = tokenizer.encode("".join(pair), add_special_tokens=False).ids
        tokens[row, : len(ids)], mask[row, : len(ids)] = ids, True
    return TrainingInput(input_tokens=tokens, input_mask=mask)


def model_input(batch: TrainingInput) -> dict:
    """The arguments of tunix's loss function."""
    rows, length = batch.input_tokens.shape
    return {
        "input_tokens": batch.input_tokens,
        "input_mask": batch.input_mask,
        "positions": jnp.broadcast_to(jnp.arange(length), (rows, length)),
        "attention_mask": jnp.broadcast_to(
            jnp.tril(jnp.ones((length, length), bool)), (rows, length, length)
        ),
    }


def main() -> None:
    llama = load()
    hook = Evaluation(windrow.JaxLM(language_model(llama), str(FOLDER)))
    config = TrainingConfig(eval_every_n_steps=1000, max_steps=STEPS)
    trainer = PeftTrainer(llama, optax.adam(3e-3), config).with_gen_model_input_fn(model_input)
    trainer.with_training_hooks(hook)
    trainer.train([training_input()] * STEPS)
    print(*hook.lines, sep="\n")
    print(f"{len(hook.lines)} evaluations; after the first evaluation, no programs were compiled")


if __name__ == "__main__":
    main()
