# ruff: noqa: ARG002, ARG005  (methods that replace those of transformers take their arguments)
"""Evaluates any causal language model in transformers: JAX traces its PyTorch code through torchax.

    pip install -r any_hf_requirements.txt
    ANY_HF_MODEL=DIRECTORY windrow run --model_args factory=any_hf:make_model --tasks arc_easy
    python any_hf.py DIRECTORY...     # only shows what each model can do

PyTorch runs only while JAX traces: modules are called on arrays that look like tensors, and XLA compiles the
recorded operations. Masks and caches are replaced, and the model is split into body and head, so rows can be
packed, hold prefix trees and run in chunks. torchax can silently lose in-place writes, so :func:`admit`
compares each model with PyTorch's own logits before it is used.
"""

import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from threading import RLock
from types import SimpleNamespace
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchax
from huggingface_hub import snapshot_download
from torchax.interop import jax_view, torch_view
from torchax.view import View
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

import windrow
from windrow.tokens import load_tokenizer

LONGEST = 384
"""The maximum number of tokens in the rows that are compared, unless a sliding window is longer."""

LONGEST_WINDOW = 1024
TOLERANCE = 1e-3
"""The allowed difference, as a part of the largest logit if that is above 1."""

TRACING = RLock()
"""Tracing replaces PyTorch's modes, transformers' masks and the module's parameters, so only one trace runs
at a time."""


# What torchax 0.0.13 lacks or computes differently from PyTorch.


def grouped_mm(left, right, offs=None, bias=None, out_dtype=None):
    """Multiplies runs of rows, each by its own matrix, for mixtures of experts."""
    left, right, ends = jax_view((left, right, offs))
    return torch_view(jax.lax.ragged_dot(left, right, jnp.diff(ends, prepend=0)).astype(left.dtype))


def copy_(target, source, non_blocking=False):
    """An assignment in place; a scalar fills the target instead of replacing it."""
    source = jax_view(source)
    if isinstance(target, View):
        target.update(source)
    else:
        # Only scalars: code of torchax itself lets the target grow.
        source = source if source.ndim else jnp.broadcast_to(source, target._elem.shape)
        target._elem = source.astype(target._elem.dtype)
    return target


torchax.default_env().override_op_definition(torch.ops.aten._grouped_mm.default, grouped_mm)
torchax.default_env().override_op_definition(torch.ops.aten.copy_.default, copy_, is_view_op=True)
torchax.tensor.Tensor.type_as = lambda self, other: self.to(other.dtype)  # torchax's changes self, too


class Cache(DynamicCache):
    """Replaces transformers' cache and masks during one trace.

    The state is a flat dictionary. ``("keys", layer, 0)`` and ``("values", layer, 0)`` are
    ``[rows, heads, slots, width]``; a token's slot is its position. ``("conv", layer, n)`` and
    ``("recurrent", layer, n)`` are the states of recurrent layers. Without a state, tokens see their own row.
    """

    def __init__(self, config, state, positions, segment_ids, reach=None):
        super().__init__(config=config)
        self.state, self.written, self.lent = state, {}, {}
        self.positions, self.segment_ids, self.reach = positions, segment_ids, reach

    def after(self):
        """The state after the trace; layers may have written into the arrays they were given."""
        return {name: jax_view(tensor) for name, tensor in self.lent.items()} | self.written

    def before(self, *name):
        return None if self.state is None else self.state.get(name)

    @property
    def slots(self):
        kept = [leaf.shape[2] for (kind, *_), leaf in (self.state or {}).items() if kind == "keys"]
        return max(kept, default=self.positions.shape[1])

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        return self.write(key_states, "keys", layer_idx, 0), self.write(value_states, "values", layer_idx, 0)

    def write(self, tensor, *name):
        """All keys or values of a layer, including those of the current tokens."""
        new, old = jax_view(tensor), self.before(*name)
        if old is not None:
            slots = jnp.where(self.segment_ids > 0, self.positions, self.slots)  # padding falls off the end
            put = jax.vmap(lambda row, new, slots: row.at[:, slots].set(new, mode="drop"))
            new = put(old, new.astype(old.dtype), slots)
        self.written[name] = new
        return torch_view(new)

    def update_conv_state(self, conv_states, layer_idx, state_idx=0, conv_kernel_size=None, **kwargs):
        name = ("conv", layer_idx, state_idx)
        whole, old = jax_view(conv_states), self.before(*name)
        if old is not None:
            size, whole = old.shape[-1], jnp.concatenate([old, whole], axis=-1)
        else:
            size = conv_kernel_size or whole.shape[-1]
            missing = max(0, size - whole.shape[-1])
            whole = jnp.pad(whole, [(0, 0)] * (whole.ndim - 1) + [(missing, 0)])
        self.written[name] = whole[..., -size:]
        return torch_view(whole)

    def update_recurrent_state(self, recurrent_states, layer_idx, state_idx=0, **kwargs):
        self.written["recurrent", layer_idx, state_idx] = jax_view(recurrent_states)
        return recurrent_states

    def get_conv_state(self, layer_idx, state_idx=0):
        return self.lend("conv", layer_idx, state_idx)

    def get_recurrent_state(self, layer_idx, state_idx=0):
        return self.lend("recurrent", layer_idx, state_idx)

    def lend(self, *name):
        old = self.before(*name)
        return None if old is None else self.lent.setdefault(name, torch_view(old))

    def has_previous_state(self, layer_idx=None, state_idx=None):
        return self.state is not None

    def get_seq_length(self, layer_idx=0):
        return self.slots - self.positions.shape[1]

    def get_query_offset(self, layer_idx=0):
        return 0

    def get_mask_sizes(self, query_length, layer_idx=0):
        return self.slots, 0

    def mask(self, *args, mask_function, **kwargs):
        """Replaces transformers' mask; ``mask_function`` says which positions a layer sees."""
        rows, columns = self.positions.shape
        row, head = jnp.arange(rows)[:, None, None, None], jnp.zeros((1, 1, 1, 1), jnp.int32)
        keys = self.positions if self.state is None else jnp.arange(self.slots)[None]
        places = (row, head, self.positions[:, None, :, None], keys[:, None, None, :])
        seen = jax_view(mask_function(*torch_view(places)))
        if self.state is None:
            seen &= windrow.visible(self.segment_ids, self.reach)[:, None]
        return torch_view(jnp.broadcast_to(seen, (rows, 1, columns, self.slots)))

    def float_mask(self, *args, dtype=torch.float32, **kwargs):
        """The same mask, as a term that is added to scores."""
        zero = torch.zeros((), dtype=dtype, device="jax")
        return torch.where(self.mask(*args, **kwargs), zero, torch.finfo(dtype).min)

    @contextmanager
    def masking(self):
        """Makes transformers' layers use these masks. Models keep their own attention implementation."""
        ALL_MASK_ATTENTION_FUNCTIONS.update(sdpa=self.mask, eager=self.float_mask)
        try:
            yield
        finally:
            for kind in ("sdpa", "eager"):
                del ALL_MASK_ATTENTION_FUNCTIONS[kind]


class Whole(torch.nn.Module):
    """Lets ``functional_call`` run any function of a module, not only its ``forward``."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, function):
        return function(self.module)


class BodyOutput(SimpleNamespace):
    """The output of a body, as read by its head."""

    def __getattr__(self, name):
        return None

    def __getitem__(self, index):
        return () if isinstance(index, slice) else self.last_hidden_state


class Bridge:
    """A transformers model as pure functions."""

    def __init__(self, model):
        self.model, self.whole = model, Whole(model)
        self.config = model.config.get_text_config()
        accepted = signature(model.forward).parameters
        names = ("past_key_values", "cache_params", "cache")
        self.cache_name = next((name for name in names if name in accepted), None)
        self.takes_positions = "position_ids" in accepted

    def params(self):
        """Parameters and buffers by name; tied ones only once."""
        tensors = [*self.whole.named_parameters(), *self.whole.named_buffers()]
        return {name: torchax.default_env().t2j_copy(tensor.detach()) for name, tensor in tensors}

    def call(self, params, function):
        """Calls a function of the module with these parameters."""
        precise = jax.default_matmul_precision("highest")
        with TRACING, torchax.default_env(), torch.no_grad(), precise:
            return jax_view(torch.func.functional_call(self.whole, torch_view(params), (function,)))

    def read(self, params, tokens, cache, *, whole=False):
        """The logits of the whole model, or the last hidden state of its body."""
        given = {"input_ids": torch_view(tokens), "use_cache": self.cache_name is not None}
        if self.takes_positions:
            given["position_ids"] = torch_view(cache.positions)
        if self.cache_name is not None:
            given[self.cache_name] = cache

        def run(model):
            return model(**given).logits if whole else body(model)(**given).last_hidden_state

        with TRACING, cache.masking():
            return self.call(params, run)

    def apply(self, params, tokens, positions, segment_ids, reach=None):
        return self.read(params, tokens, Cache(self.config, None, positions, segment_ids, reach), whole=True)

    def hidden(self, params, tokens, positions, segment_ids, reach=None):
        return self.read(params, tokens, Cache(self.config, None, positions, segment_ids, reach))

    def head(self, params, picked):
        """Everything that the model does after its body, including scaling and soft caps."""
        output = BodyOutput(last_hidden_state=torch_view(picked[:, None]))
        tokens = torch_view(jnp.zeros((len(picked), 1), jnp.int32))
        with TRACING, patch.object(body(self.model), "forward", lambda *args, **kwargs: output):
            return self.call(params, lambda model: model(input_ids=tokens).logits)[:, 0]

    def init_state(self, params, rows, length):
        ones = jnp.ones((rows, 1), jnp.int32)

        def first(params):
            cache = Cache(self.config, None, ones, ones)
            self.read(params, ones, cache)
            return cache.after()

        state = {}
        for name, leaf in jax.eval_shape(first, params).items():
            shape = list(leaf.shape)
            if name[0] in ("keys", "values"):
                shape[2] = length
            state[name] = jnp.zeros(shape, leaf.dtype)
        return state

    def step(self, params, state, tokens, positions, segment_ids):
        if all(kind in ("keys", "values") for kind, *_ in state):
            return self.advance(params, state, tokens, positions, segment_ids)

        # Recurrent layers do not support padding after a text, so tokens go one by one.
        def column(state, column):
            after, out = self.advance(params, state, *(each[:, None] for each in column))
            real = column[2] > 0
            kept = {
                name: jnp.where(real.reshape(-1, *[1] * (leaf.ndim - 1)), after[name], leaf).astype(
                    leaf.dtype
                )
                for name, leaf in state.items()
            }
            return kept, out[:, 0]

        state, out = jax.lax.scan(column, state, (tokens.T, positions.T, segment_ids.T))
        return state, jnp.swapaxes(out, 0, 1)

    def advance(self, params, state, tokens, positions, segment_ids):
        cache = Cache(self.config, state, positions, segment_ids)
        out = self.read(params, tokens, cache)
        return cache.after(), out

    def has_states(self, params):
        """Whether ``step`` returns a state of the same structure as its input."""
        if self.cache_name is None:
            return False
        try:
            state = self.init_state(params, 2, 8)
            after, _ = jax.eval_shape(self.step, params, state, *jnp.ones((3, 2, 4), jnp.int32))
        except Exception:  # whatever the model's own code raises
            self.cache_name = None  # a cache of another kind, as xLSTM has
            return False
        same = jax.tree.map(lambda one, other: one.shape == other.shape, state, after)
        return bool(state) and all(jax.tree.leaves(same))


def body(model):
    """The model without its head."""
    found = model.get_decoder()
    return model.base_model if found is model else found


def language_model(model, max_length):
    """A transformers model as a ``windrow.LanguageModel`` that has not been compared with PyTorch yet."""
    bridge = Bridge(model.eval().requires_grad_(False))
    params = bridge.params()
    parts = {}
    if body(model) is not model:
        parts |= {"hidden": bridge.hidden, "head": bridge.head}
        if bridge.has_states(params):
            parts |= {"init_state": bridge.init_state, "step": bridge.step}
    return windrow.LanguageModel(params, bridge.apply, max_length, **parts)


class Texts:
    """Random texts in rows, and PyTorch's logits for some of their tokens.

    ``a`` fills the longest row that is compared. ``b`` shares a prefix with it; ``c`` and ``d`` are short:

        apart     a a a a a a a a . .      packed    a a a a a a a a . .
                  a a a a b b . . . .                d c c a a a a b b .
                  c c . . . . . . . .      tree      a a a a a a a a b b
                  d . . . . . . . . .
    """

    def __init__(self, model, max_length):
        window = getattr(model.config.get_text_config(), "sliding_window", None) or 0
        longest = max(LONGEST, min(window, LONGEST_WINDOW) + 64)
        self.length = min(longest, max_length or longest) // 8 * 8
        rng, vocabulary = np.random.default_rng(0), model.get_input_embeddings().weight.shape[0]
        a, c, d = (rng.integers(3, vocabulary, n) for n in (self.length, self.length // 3, 2))
        b = np.concatenate([a[: self.length // 2], rng.integers(3, vocabulary, self.length // 4)])
        self.texts = [a, b, c, d]
        self.places = [np.unique(np.linspace(0, len(text) - 1, 32).astype(int)) for text in self.texts]
        pairs = zip(self.texts, self.places, strict=True)
        self.logits = np.concatenate([own_logits(model, *each) for each in pairs])

    def rows(self, *groups):
        """A batch with these texts in its rows, and the rows and columns of the compared tokens."""
        batch, found = np.zeros((3, len(groups), self.length * 5 // 4), np.int32), {}
        for row, group in enumerate(groups):
            begin = 0
            for segment, number in enumerate(group, 1):
                text = self.texts[number]
                here = slice(begin, begin + len(text))
                batch[:, row, here] = np.broadcast_arrays(text, np.arange(len(text)), segment)
                found[number] = [(row, begin + place) for place in self.places[number]]
                begin = here.stop
        return tuple(batch), np.array([place for number in range(4) for place in found[number]]).T

    def tree(self):
        """One row with ``a`` and ``b``, which contains their shared prefix only once."""
        half, whole = self.length // 2, self.length
        tokens = np.concatenate([self.texts[0], self.texts[1][half:]]).astype(np.int32)
        positions = np.concatenate([np.arange(whole), np.arange(half, len(self.texts[1]))]).astype(np.int32)
        reach = np.full(len(tokens), len(tokens), np.int32)
        reach[half:whole] = whole
        a, b = self.places[:2]
        columns = np.concatenate([a, np.where(b < half, b, b + half)])
        batch = tuple(each[None] for each in (tokens, positions, np.ones_like(tokens), reach))
        return batch, np.stack([np.zeros_like(columns), columns])


def own_logits(model, text, places):
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(text[None]).long(), use_cache=False).logits[0]
    return logits[places].float().numpy()


def admit(model, made, tolerance=TOLERANCE):
    """Compares each way of running the model with PyTorch's own logits.

    Args:
        model: The transformers model.
        made: The result of :func:`language_model`.
        tolerance: The allowed difference, as a part of the largest logit if that is above 1.

    Returns:
        The ``LanguageModel`` without the parts that differ or fail, and a dictionary with the largest
        difference, or the error, for each way: ``apply``, ``head``, ``step``, ``packed`` and ``trees``.
        Nothing is removed for ``packed``, because windrow packs rows only if its own trial gives the same
        numbers.

    Raises:
        ValueError: ``apply`` differs or fails.
    """
    texts = Texts(model, made.max_length)
    apart = texts.rows([0], [1], [2], [3])
    found = {}

    def holds(name, compute, batch, places):
        try:
            logits = np.asarray(jax.jit(compute)(made.params, batch, places), np.float32)
        except Exception as error:  # whatever the model's own code raises
            found[name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:100]}"
            return False
        wanted = texts.logits[: len(logits)]
        found[name] = float(np.abs(logits - wanted).max())
        return found[name] <= tolerance * max(1, np.abs(wanted).max())

    def by_apply(params, batch, places):
        return made.apply(params, *batch)[tuple(places)]

    def by_parts(params, batch, places):
        return made.head(params, made.hidden(params, *batch)[tuple(places)])

    def by_steps(params, batch, places):
        chunks = tuple(each[:, : texts.length].reshape(4, 4, -1).swapaxes(0, 1) for each in batch)
        state = made.init_state(params, 4, texts.length)
        _, parts = jax.lax.scan(lambda state, chunk: made.step(params, state, *chunk), state, chunks)
        read = parts.swapaxes(0, 1).reshape(4, texts.length, -1)
        return made.head(params, read[tuple(places)])

    if not holds("apply", by_apply, *apart):
        raise ValueError(
            f"{type(model).__name__} differs from PyTorch when run through torchax: {found['apply']}"
        )
    reduced, scored = made, by_parts
    if not made.head or not holds("head", by_parts, *apart):
        reduced = replace(made, hidden=None, head=None, init_state=None, step=None)
        scored = by_apply
    if reduced.step and not holds("step", by_steps, *apart):
        reduced = replace(reduced, init_state=None, step=None)
    holds("packed", scored, *texts.rows([0], [3, 2, 1]))
    if not holds("trees", scored, *texts.tree()):
        reduced = replace(reduced, apply=without_reach(made.apply))
        if reduced.hidden:
            reduced = replace(reduced, hidden=without_reach(made.hidden))
    return reduced, found


def without_reach(function: Callable) -> Callable:
    """The same function, for rows without trees."""
    return lambda params, tokens, positions, segment_ids: function(params, tokens, positions, segment_ids)


def stated_length(model, folder):
    """The maximum input length, determined as in lm_eval's own backend."""
    config = model.config.get_text_config()
    names = ("n_positions", "max_position_embeddings", "n_ctx")
    stated = next((getattr(config, name) for name in names if getattr(config, name, None)), None)
    return stated or load_tokenizer(folder).model_max_length or 2048


def load(name):
    """Loads a model from a directory or the Hub; returns the model, the differences, and the directory."""
    folder = name
    if not os.path.isdir(name):
        folder = snapshot_download(name, allow_patterns=["*.json", "*.jinja", "*.safetensors"])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.tie_weights()  # as lm_eval does after loading
    admitted, found = admit(model, language_model(model, stated_length(model, folder)))
    return admitted, found, folder


def shown(found):
    return ", ".join(f"{way} {gap if isinstance(gap, str) else f'{gap:.0e}'}" for way, gap in found.items())


def make_model():
    """The factory: returns the model that ``ANY_HF_MODEL`` names, and its tokenizer."""
    name = os.environ.get("ANY_HF_MODEL")
    if not name:
        raise ValueError("set ANY_HF_MODEL to a model's directory, or to its name on the Hugging Face Hub")
    model, found, folder = load(name)
    print(f"{model}\nlargest difference from PyTorch's logits: {shown(found)}", file=sys.stderr)
    return model, folder


def main() -> None:
    for name in sys.argv[1:]:
        model, found, _ = load(name)
        print(f"{name}: {model}\n  largest difference from PyTorch's logits: {shown(found)}", flush=True)


if __name__ == "__main__":
    main()
