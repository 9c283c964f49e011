"""A tokenizer: texts in, ragged token arrays out."""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow import _rust
from windrow.tokens.backend import SpecialTokens, build_backend
from windrow.tokens.chat import Message, render_chat, select_template
from windrow.tokens.plain import PlainBackend
from windrow.tokens.source import ChatTemplate, TokenizerFiles, files_of_object, read_files

_NO_LIMIT = 10**18


class Tokenizer:
    """Encodes texts, on every core, exactly as the tokenizer's own library does.

    Built by `load_tokenizer`.

    Attributes:
        name: What it was loaded from.
        vocab_size: How many tokens there are, added ones included; ``None`` where nothing says so.
        bos_token_id: The token that begins a text, if there is one.
        eos_token_id: The token that ends a text, if there is one.
        pad_token_id: The token that pads, if there is one.
        prefix_token_id: The token before a text without context: the one given, else BOS, else EOS.
        model_max_length: The most tokens its model can see, if the tokenizer says so.
        chat_template: The chat template, or several by name.
        add_bos_token: What `load_tokenizer` was told.
    """

    def __init__(
        self,
        files: TokenizerFiles,
        backend: Any,
        special: SpecialTokens,
        encoder: Any,
        *,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
    ) -> None:
        self._backend, self._special, self.encoder = backend, special, encoder
        self.name = files.name
        self.add_bos_token = add_bos_token
        self.vocab_size: int | None = backend.get_vocab_size(with_added_tokens=True)
        self.bos_token_id, self.eos_token_id, self.pad_token_id = (
            None if token is None else backend.token_to_id(token)
            for token in (special.bos, special.eos, special.pad)
        )
        defaults = (prefix_token_id, self.bos_token_id, self.eos_token_id)
        self.prefix_token_id: int | None = next((token for token in defaults if token is not None), None)
        size = self.vocab_size if self.vocab_size is not None else _NO_LIMIT
        if self.prefix_token_id is not None and not 0 <= self.prefix_token_id < size:
            raise ValueError(
                f"prefix_token_id is {self.prefix_token_id}; it must be a token of {self.name!r}, "
                f"from 0 to {size - 1}"
            )
        limit = files.config.get("model_max_length")
        self.model_max_length = int(limit) if limit is not None and limit < _NO_LIMIT else None
        self.chat_template: ChatTemplate = files.chat_template

    @property
    def adds_special_tokens(self) -> bool:
        """Whether special tokens are added to texts where nothing else is said."""
        return self.add_bos_token is not False

    @property
    def bos_text(self) -> str | None:
        """The BOS token as it is spelled."""
        return self._special.bos

    @cached_property
    def prefix_text(self) -> str | None:
        """What the prefix token decodes to; a text that begins so gets no special tokens."""
        if self.prefix_token_id is None or not getattr(self._backend, "can_decode", True):
            return None
        return self.decode([self.prefix_token_id], skip_special_tokens=False)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides how texts are encoded; equal on all hosts that encode alike."""
        settings = (
            self._backend.to_str(),
            self.add_bos_token,
            self.prefix_token_id,
            self.bos_text,
            self.prefix_text,
        )
        return hashlib.sha256(repr(settings).encode()).hexdigest()

    def encode_batch(
        self, texts: Sequence[str], *, add_special_tokens: bool | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Encodes texts into one ragged array.

        Args:
            texts: ``n`` strings.
            add_special_tokens: Whether the tokenizer adds its special tokens; ``None`` decides text by text
                as lm-eval does: as ``add_bos_token`` says, else yes, but never to a text that begins with
                the prefix token's own text.

        Returns:
            Tokens ``int32[t]`` and offsets ``int64[n + 1]``; text ``i`` is
            ``tokens[offsets[i]:offsets[i + 1]]``.

        Raises:
            ValueError: A text is not a string, or holds a lone surrogate.
        """
        explicit = add_special_tokens is not None
        tokens, offsets, *_, bad = _rust.encode_texts(
            self.encoder,
            texts,
            self.adds_special_tokens if add_special_tokens is None else add_special_tokens,
            None if explicit else self.prefix_text,
        )
        if bad:
            index, reason = bad[0]
            raise ValueError(f"text {index}: {reason}; it begins {str(texts[index])[:40]!r}")
        return tokens, offsets

    def encode(self, text: str, *, add_special_tokens: bool | None = None) -> list[int]:
        """Encodes one text; see `encode_batch`."""
        return self.encode_batch([text], add_special_tokens=add_special_tokens)[0].tolist()  # type: ignore[no-any-return]

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Decodes tokens to text; special tokens are dropped unless told otherwise."""
        return self._backend.decode([int(token) for token in tokens], skip_special_tokens=skip_special_tokens)  # type: ignore[no-any-return]

    def apply_chat_template(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """A conversation as one string, by the tokenizer's own template, as `HFLM` renders it.

        Without a generation prompt the text ends with the final message, for the model to go on with it. A
        template that refuses the conversation is tried again without its system messages.

        Args:
            messages: Each with ``role`` and ``content``.
            add_generation_prompt: Whether what begins the model's answer is added.

        Raises:
            ValueError: There is no template, or it refuses the conversation.
        """
        from jinja2 import TemplateError

        template = select_template(self.chat_template, None, self.name)
        without_system = [message for message in messages if message["role"] != "system"]
        for attempt in (messages, without_system):
            try:
                return render_chat(
                    template,
                    attempt,
                    self._special.roles,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            except TemplateError as error:
                refusal = error
        raise ValueError(f"the chat template of {self.name!r} refuses the conversation: {refusal}")

    def template_named(self, name: str | None) -> str:
        """The source of a chat template: the named one of several, else the default one."""
        return select_template(self.chat_template, name, self.name)

    def __repr__(self) -> str:
        """Its name and how many tokens it has."""
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

    Args:
        source: A path to a ``tokenizer.json`` or to a directory with one, a name on the hub, a
            ``tokenizers.Tokenizer``, a fast tokenizer of transformers, a `Tokenizer`, which is returned as it
            is, or any object with ``encode(text) -> list[int]``, which is slower, and says so once.
        add_bos_token: Whether texts get a BOS token; ``None`` leaves it to the tokenizer's files.
        prefix_token_id: The token before a text without context; ``None`` means BOS, else EOS.
        hf_access_token: The access token for the hub.
        cache_dir: Where files from the hub are kept.

    Raises:
        FileNotFoundError: There is no tokenizer at this path.
        ValueError: A file is not what it should be, or describes what nothing here knows.
    """
    if isinstance(source, Tokenizer):
        return source
    if isinstance(source, str | os.PathLike):
        files = read_files(source, hf_access_token=hf_access_token, cache_dir=cache_dir)
    else:
        found = files_of_object(source)
        if found is None:
            return _plain(source, add_bos_token, prefix_token_id)
        files = found
    backend, special = build_backend(files, add_bos_token)
    encoder: Callable[..., Any] | _rust.Encoder = _rust.Encoder(backend.to_str())
    return Tokenizer(
        files, backend, special, encoder, add_bos_token=add_bos_token, prefix_token_id=prefix_token_id
    )


def _plain(source: Any, add_bos_token: bool | None, prefix_token_id: int | None) -> Tokenizer:
    backend = PlainBackend(source)
    name = type(source).__name__
    warnings.warn(
        f"tokenizer {name} encodes in Python, one text at a time; a tokenizer.json is many times as fast",
        stacklevel=3,
    )
    special = SpecialTokens("bos_token", "eos_token", "pad_token", {})
    return Tokenizer(
        TokenizerFiles(name, ""),
        backend,
        special,
        backend,
        add_bos_token=add_bos_token,
        prefix_token_id=prefix_token_id,
    )
