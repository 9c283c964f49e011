"""The properties of a model that lm_eval reads, for its prompts and its results."""

from typing import Any

from lm_eval.api.model import LM

from windrow.harness.chat import Chat
from windrow.harness.totals import Totals
from windrow.model import LanguageModel
from windrow.scoring import Scorer
from windrow.sharding import RowSharding
from windrow.sizing.policy import BatchPolicy
from windrow.tokens import Tokenizer


class Records(LM):
    """The model's names, sizes and chat template, read from the attributes of :class:`windrow.JaxLM`."""

    model: LanguageModel
    tokenizer: Tokenizer
    policy: BatchPolicy
    sharding: RowSharding
    max_length: int | None
    source: str
    revision: str
    _chat: Chat
    _scorer: Scorer
    _totals: Totals

    def __repr__(self) -> str:
        """The model, its tokenizer, limit, policy and devices, without its arrays."""
        devices = self.sharding.mesh.devices
        return (
            f"JaxLM({self.model!r} from {self.source}, tokenizer {self.tokenizer.name}, "
            f"max_length={self.max_length}, {self.policy}, {devices.size} × {devices.flat[0].device_kind})"
        )

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, safe to use as a file name."""
        return self.tokenizer.name.replace("/", "__")

    @property
    def eot_token_id(self) -> int | None:
        """The id of the end-of-text token."""
        return self.tokenizer.eos_token_id

    @property
    def batch_size(self) -> int | str:
        """Rows per batch, or ``"auto"``."""
        return "auto" if self.policy.batch_size is None else self.policy.batch_size

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as one string, formatted by the tokenizer's chat template."""
        return self.tokenizer.apply_chat_template(chat_history, add_generation_prompt, **self._chat.variables)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, for lm_eval's records; ``None`` if no template is requested."""
        if chat_template is False or self.tokenizer.chat_template is None:
            return None
        return self.tokenizer.template_named(chat_template if isinstance(chat_template, str) else None)

    def get_model_info(self) -> dict[str, Any]:
        """The model's size, dtype and source, for lm_eval's records."""
        revision = {"model_revision": self.revision, "model_sha": ""}
        return {**self._scorer.describe(), **revision, "model_source": self.source}

    @property
    def batch_sizes(self) -> dict[str, int]:
        """If no batch size was given: the rows of the batches that ran, by shape."""
        if self.policy.batch_size is not None:
            return {}
        return {f"{rows}x{length}": rows for rows, length in self._totals.counts()["shapes"]}
