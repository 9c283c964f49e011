"""Grain transforms of single elements: requests to texts, and tokens to the fields of a batch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grain
import numpy as np
from numpy.typing import NDArray

from windrow.admission import kind_of

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

_SCORED = ("loglikelihood", "loglikelihood_rolling")


class ParseLMEval(grain.transforms.Map):
    """Turns an lm_eval request into its texts: the scored text, and the prefix before it.

    A request's arguments are a context and a continuation, or a single text, which is scored whole, with an
    empty prefix. White space is not moved.

    Args:
        request_name: The key of the request in an element.
    """

    def __init__(self, request_name: str = "req") -> None:
        self.request_name = request_name

    def map(self, item: "Mapping[str, int | Instance]") -> dict[str, Any]:
        """The element with its request replaced by ``prefix`` and ``text``; everything else is kept.

        Args:
            item: An element with an lm_eval ``Instance`` of type ``loglikelihood`` or
                ``loglikelihood_rolling`` under ``request_name``, and usually its
                index, ``idx``. Arguments after the second are ignored.

        Raises:
            KeyError: The element has no request.
            TypeError: The request is not an ``Instance``, or its texts are not strings.
            ValueError: The request is of another type, or has no arguments.

        >>> from lm_eval.api.instance import Instance
        >>> request = Instance(request_type="loglikelihood", doc={}, arguments=("Prefix", "Main"), idx=0)
        >>> ParseLMEval().map({"idx": 1, "req": request})
        {'idx': 1, 'prefix': 'Prefix', 'text': 'Main'}
        """
        if self.request_name not in item:
            raise KeyError(
                f"an element has no {self.request_name!r}, where its request should be; it has {sorted(item)}"
            )
        prefix, text = request_texts(item[self.request_name], item.get("idx"), most=None)
        kept = {key: value for key, value in item.items() if key != self.request_name}
        return {**kept, "prefix": prefix, "text": text}


def request_texts(request: Any, number: Any, most: int | None = 2) -> tuple[str, str]:
    """The prefix and the scored text of an lm_eval request.

    Args:
        request: The request.
        number: The request's number, if any, for error messages.
        most: The maximum number of arguments; ``None`` for any number, of which the first two are used.

    Raises:
        TypeError, ValueError: See `ParseLMEval`; or there are too many arguments.
    """
    name = "a request" if number is None else f"request {number}"
    arguments = getattr(request, "args", None)
    if arguments is None:
        raise TypeError(f"{name} is {kind_of(request)}; it must be an lm_eval Instance")
    if request.request_type not in _SCORED:
        raise ValueError(
            f"{name} is of type {request.request_type!r}; only {' and '.join(_SCORED)} are scored "
            "here; use windrow.JaxLM for tasks that generate text"
        )
    if not arguments or (most is not None and len(arguments) > most):
        raise ValueError(
            f"{name} has {len(arguments)} arguments; it must have a context and a continuation, or one text"
        )
    texts = arguments[:2]
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(
                f"{name} has {kind_of(text)} among its arguments, {text!r:.60}; they must be strings"
            )
    return ("", texts[0]) if len(texts) == 1 else (texts[0], texts[1])


class CompleteLLMIndexedBatch(grain.transforms.Map):
    """Adds the remaining fields of an `LLMIndexedBatch` to elements with tokens and an index.

    >>> complete = CompleteLLMIndexedBatch().map(
    ...     {"inputs": np.array([[1, 2]]), "targets": np.array([[2, 3]]), "idx": np.array(0)})
    >>> complete["document_idx"], complete["inputs_position"], complete["_document_borders"]
    (array([1], dtype=int32), array([[0, 1]]), array([[False, False]]))
    """

    @staticmethod
    def map(item: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Adds the fields that can be derived, and removes ``idx``.

        Documents count from 1, so that 0 can mark padding. Each is a single sequence, number 0, without inner
        borders. Fields that the element already has, such as segmentations, are kept.

        Args:
            item: An element with ``inputs`` and ``targets``, integers
                ``[rows, length]``, and ``idx``, one integer per row, or a single
                one for a single row. Without ``idx``, as in a padding element,
                ``document_idx`` and ``sequence_idx`` are not added.

        Returns:
            The element with ``inputs_position`` and ``targets_position``, ``int64[rows, length]``,
            ``document_idx`` and ``sequence_idx``, ``int32[rows]``, and ``_document_borders``,
            ``bool[rows, length]``.

        Raises:
            KeyError: ``inputs`` or ``targets`` is missing.
            TypeError: ``idx`` is not an integer array.
            ValueError: Tokens are not ``[rows, length]``, ``idx`` has a different number of
                rows, or a document's number does not fit ``int32``.
        """
        for key in ("inputs", "targets"):
            if key not in item:
                raise KeyError(
                    f"an element has no {key!r}; it has {sorted(item)}, and needs 'inputs' and 'targets'"
                )
        documents = _documents(item["idx"]) if "idx" in item else {}
        for key in ("inputs", "targets"):
            shape = np.shape(item[key])
            if len(shape) != 2 or (documents and shape[:1] != documents["document_idx"].shape):
                raise ValueError(
                    f"{key} has shape {shape}, idx {np.shape(item['idx']) if documents else 'none'}; "
                    "they must be [rows, length] and [rows]"
                )
        complete = {
            "inputs_position": _positions(item["inputs"]),
            "targets_position": _positions(item["targets"]),
            "_document_borders": np.zeros(np.shape(item["inputs"]), np.bool_),
        }
        return complete | documents | {key: value for key, value in item.items() if key != "idx"}


def _documents(idx: Any) -> dict[str, NDArray[Any]]:
    """The fields that number each row's document, from the rows' indexes."""
    idx = np.atleast_1d(idx)
    if idx.dtype.kind not in "iu":
        raise TypeError(f"idx has dtype {idx.dtype}; it must be an integer array")
    numbers = idx.astype(np.int64) + 1
    if numbers.size and not 0 <= numbers.min() <= numbers.max() <= np.iinfo(np.int32).max:
        raise ValueError(
            f"idx ranges from {numbers.min() - 1} to {numbers.max() - 1}; "
            "idx + 1 numbers the documents, so it must fit in int32 and not be negative"
        )
    return {
        "document_idx": numbers.astype(np.int32),
        "sequence_idx": np.zeros(numbers.shape, np.int32),
    }


def _positions(tokens: NDArray[Any]) -> NDArray[np.int64]:
    rows, length = np.shape(tokens)
    return np.tile(np.arange(length), (rows, 1))
