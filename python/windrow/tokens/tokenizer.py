"""A tokenizer, which encodes texts into ragged token arrays."""

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow import _rust
from windrow.tokens.backend import backend_parts
from windrow.tokens.chat import Message, render_chat
from windrow.tokens.check import check_encoder
from windrow.tokens.foreign import foreign_parts
from windrow.tokens.source import TokenizerFiles, object_files, read_files


class Tokenizer:
    """Encodes texts on every core, with the same results as the tokenizer's own library.

    Created by `load_tokenizer`. Its threads exist only during a call, so it works in forked processes, and
    ``TOKENIZERS_PARALLELISM`` has no effect. It can be pickled.

    Attributes:
        name: The source it was loaded from.
        vocab_size: The number of tokens, including added ones; ``None`` if its library does not report it.
        bos_token_id: The beginning-of-text token, if there is one.
        eos_token_id: The end-of-text token, if there is one.
        pad_token_id: The padding token, if there is one.
        prefix_token_id: The token that replaces an empty context: the argument, else BOS, else EOS.
        model_max_length: The model's maximum input length, if the tokenizer specifies it.
        chat_template: The chat template, or several by name, if there are any.
        add_bos_token: The argument of `load_tokenizer`.
        encoder: The encoder to pass to functions of ``windrow._rust``.
    """

    def __init__(self, source: Any, add_bos_token: bool | None, prefix_token_id: int | None) -> None:
        files = source if isinstance(source, TokenizerFiles) else object_files(source)
        self._source = source if files is None else files
        self._settings = (add_bos_token, prefix_token_id)
        parts = foreign_parts(source, add_bos_token) if files is None else backend_parts(files, add_bos_token)
        self._parts = parts
        self.encoder = check_encoder(parts)
        self.name = parts.name
        self.vocab_size = parts.vocab_size
        self.bos_token_id, self.eos_token_id, self.pad_token_id = (
            parts.ids.get(role) for role in ("bos_token", "eos_token", "pad_token")
        )
        self._pad_role = "pad_token"
        self.model_max_length = parts.model_max_length
        self.chat_template = parts.chat_template
        self.add_bos_token = add_bos_token
        choices = (prefix_token_id, self.bos_token_id, self.eos_token_id)
        self.prefix_token_id = next((token for token in choices if token is not None), None)
        last = (self.vocab_size or 2**31) - 1
        if self.prefix_token_id is not None and not 0 <= self.prefix_token_id <= last:
            raise ValueError(
                f"prefix_token_id is {self.prefix_token_id}; the token ids of {self.name!r} are 0 to {last}"
            )

    def with_settings(self, add_bos_token: bool | None, prefix_token_id: int | None) -> "Tokenizer":
        """This tokenizer with other settings; ``None`` leaves a setting unchanged."""
        old_bos, old_prefix = self._settings
        settings = (
            old_bos if add_bos_token is None else add_bos_token,
            old_prefix if prefix_token_id is None else prefix_token_id,
        )
        return self if settings == self._settings else Tokenizer(self._source, *settings)

    @property
    def adds_special_tokens(self) -> bool:
        """Whether special tokens are added to texts by default."""
        return self.add_bos_token is not False

    @property
    def bos_token(self) -> str | None:
        """The text of the beginning-of-text token."""
        return self._parts.texts.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """The text of the end-of-text token."""
        return self._parts.texts.get("eos_token")

    @property
    def pad_token(self) -> str | None:
        """The text of the padding token."""
        return self._parts.texts.get(self._pad_role)

    def with_padding(self) -> "Tokenizer":
        """This tokenizer with a padding token: its own, else the unknown token, else EOS, as in lm_eval."""
        roles = ("pad_token", "unk_token", "eos_token")
        chosen = object.__new__(Tokenizer)
        vars(chosen).update(vars(self))
        chosen._pad_role = next((role for role in roles if role in self._parts.ids), "pad_token")
        chosen.pad_token_id = self._parts.ids.get(chosen._pad_role)
        return chosen

    @cached_property
    def prefix_text(self) -> str | None:
        """The text of the prefix token; texts that start with it get no special tokens."""
        if self.prefix_token_id is None or self._parts.decode is None:
            return None
        text = self.decode([self.prefix_token_id], skip_special_tokens=False)
        # Another library may decode every special token to nothing, which every text starts with.
        return None if self._parts.foreign and not text else text

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that affects encoding; equal on all hosts that encode identically."""
        settings = (self._parts.identity, self.add_bos_token, self.prefix_token_id, self.bos_token)
        return hashlib.sha256(repr(settings).encode()).hexdigest()

    def encode_batch(
        self, texts: Sequence[str], *, add_special_tokens: bool | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Encodes texts into one ragged array.

        Args:
            texts: ``n`` strings.
            add_special_tokens: Whether the tokenizer adds its special tokens. ``None`` decides this for each
                text, as lm_eval 0.4.13's ``HFLM.tok_encode`` does: by ``add_bos_token`` if set, else yes, but
                never for a text that starts with the text of the prefix token.

        Returns:
            Tokens ``int32[t]`` and offsets ``int64[n + 1]``; text ``i`` is
            ``tokens[offsets[i]:offsets[i + 1]]``.

        Raises:
            ValueError: A text is not a string, or contains a lone surrogate.

        >>> tokenizer.encode_batch(["The cow", "", "eats"])  # doctest: +SKIP
        (array([ 464, 9875,   68, 1381], dtype=int32), array([0, 2, 2, 4]))
        """
        add = self.adds_special_tokens if add_special_tokens is None else add_special_tokens
        unless = self.prefix_text if add_special_tokens is None else None
        tokens, offsets, *_, bad = _rust.encode_texts(self.encoder, texts, add, unless)
        if bad:
            index, reason = bad[0]
            raise ValueError(f"texts[{index}]: {reason}; it is {texts[index]!r:.60}")
        return tokens, offsets

    def encode(self, text: str, *, add_special_tokens: bool | None = None) -> list[int]:
        """Encodes one text; see `encode_batch`."""
        tokens: list[int] = self.encode_batch([text], add_special_tokens=add_special_tokens)[0].tolist()
        return tokens

    def most_tokens(self, text: str) -> int:
        """The number of tokens in a text; for an object from another library, an upper bound.

        Such an object may reject the text of a special token, so it is not called.
        """
        if self._parts.foreign:
            return len(text.encode())
        return len(self.encode(text, add_special_tokens=False))

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Decodes tokens to text; special tokens are dropped by default.

        Raises:
            TypeError: The tokenizer is an object without ``decode``.
        """
        if self._parts.decode is None:
            raise TypeError(f"tokenizer {self.name!r} has no decode(tokens), which is needed here")
        return self._parts.decode([int(token) for token in tokens], skip_special_tokens)

    def template_named(self, name: str | None = None) -> str:
        """The chat template; if there are several, the one with this name, by default ``default``.

        Raises:
            ValueError: There is no template, or none of this name.
        """
        template = self.chat_template
        if template is None:
            raise ValueError(
                f"tokenizer {self.name!r} has no chat template; "
                "put a chat_template.jinja next to its tokenizer.json"
            )
        if isinstance(template, str):
            return template
        name = name or "default"
        if name not in template:
            raise ValueError(
                f"tokenizer {self.name!r} has no chat template {name!r}; it has {sorted(template)}"
            )
        return template[name]

    def apply_chat_template(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The text of a chat in the model's format.

        Args:
            messages: Mappings with ``role`` and ``content``, oldest first.
            add_generation_prompt: Whether to prompt for the model's answer; if not, the model continues the
                last message.
            variables: More variables for the template, such as ``enable_thinking``.

        Raises:
            ValueError: The tokenizer has no chat template, there are no messages, or the last one cannot be
                continued.
        """
        padding = {} if self.pad_token is None else {"pad_token": self.pad_token}
        return render_chat(
            self.template_named(),
            messages,
            add_generation_prompt=add_generation_prompt,
            variables={**self._parts.texts, **padding, **variables},
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the source and the settings."""
        return Tokenizer, (self._source, *self._settings)

    def __repr__(self) -> str:
        """The name and the vocabulary size."""
        return f"Tokenizer({self.name!r}, vocab_size={self.vocab_size})"


def load_tokenizer(
    source: str | os.PathLike[str] | Any,
    *,
    add_bos_token: bool | None = None,
    prefix_token_id: int | None = None,
    hf_access_token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Tokenizer:
    """Loads a tokenizer.

    Texts are encoded in Rust from the tokenizer's JSON, after a check that a sample is encoded the same way
    as by the ``tokenizers`` package. If the check fails, the package is used, with one warning. Texts with
    characters that differ between Unicode versions are always encoded by the package.

    Args:
        source: A path to a ``tokenizer.json`` or to a directory in the Hugging Face format, a name on the
            Hugging Face Hub, a ``tokenizers.Tokenizer``, a fast transformers tokenizer, or any object with
            ``encode(text) -> list[int]``. A `Tokenizer` is returned with these settings.
        add_bos_token: Whether texts get a BOS token; ``None`` follows the tokenizer's files.
        prefix_token_id: The token that replaces an empty context; ``None`` means BOS, else EOS.
        hf_access_token: The access token for the Hub.
        cache_dir: The directory for files from the Hub.

    Raises:
        FileNotFoundError: There is no tokenizer at this path.
        TypeError: The source cannot be used as a tokenizer.
        ValueError: A file is invalid, has a component that is not supported, or cannot be fetched from the
            Hub.
    """
    if isinstance(source, Tokenizer):
        return source.with_settings(add_bos_token, prefix_token_id)
    if isinstance(source, str | os.PathLike):
        source = read_files(source, hf_access_token=hf_access_token, cache_dir=cache_dir)
    return Tokenizer(source, add_bos_token, prefix_token_id)
