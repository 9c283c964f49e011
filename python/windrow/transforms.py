"""Grain transforms of single elements: a request to texts, a token pair to all that a batch has."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grain
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

_SCORED = ("loglikelihood", "loglikelihood_rolling")


class ParseLMEval(grain.transforms.Map):
    """Turns a request into its texts: what is scored, and the prefix before it.

    The arguments of an lm_eval request are a context and a continuation, or one
    text that is scored whole; then the prefix is empty. White space stays where
    it is.

    Args:
        request_name: The key of the element that holds the request.
    """

    def __init__(self, request_name: str = "req") -> None:
        self.request_name = request_name

    def map(self, item: "Mapping[str, int | Instance]") -> dict[str, Any]:
        """The element with its request replaced by ``prefix`` and ``text``.

        Args:
            item: An element with the request's index, ``idx``, and, under
                ``request_name``, an lm_eval ``Instance`` of type ``loglikelihood`` or
                ``loglikelihood_rolling``.

        Raises:
            KeyError: There is no ``idx`` or no request.
            TypeError: What is there is no request, or its arguments are not texts.
            ValueError: The request is of another type, or has not one or two
                arguments.

        >>> from lm_eval.api.instance import Instance
        >>> request = Instance(request_type="loglikelihood", doc={}, arguments=("Prefix", "Main"), idx=0)
        >>> ParseLMEval().map({"idx": 1, "req": request})
        {'idx': 1, 'prefix': 'Prefix', 'text': 'Main'}
        """
        for key in ("idx", self.request_name):
            if key not in item:
                raise KeyError(
                    f"an element has no {key!r}; it has {sorted(item)}, "
                    f"and needs 'idx' and {self.request_name!r}"
                )
        prefix, text = request_texts(item[self.request_name], item["idx"])
        kept = {key: value for key, value in item.items() if key != self.request_name}
        return {**kept, "prefix": prefix, "text": text}


def request_texts(request: Any, number: Any) -> tuple[str, str]:
    """Prefix and scored text of the lm_eval request with this number.

    Raises:
        TypeError, ValueError: As of `ParseLMEval`.
    """
    arguments = getattr(request, "args", None)
    if arguments is None:
        raise TypeError(f"request {number} is a {type(request).__name__}; it must be an lm_eval Instance")
    if request.request_type not in _SCORED:
        raise ValueError(
            f"request {number} is of type {request.request_type!r}; only {' and '.join(_SCORED)} are scored "
            "here: leave tasks that generate to windrow.JaxLM"
        )
    if not 1 <= len(arguments) <= 2:
        raise ValueError(
            f"request {number} has {len(arguments)} arguments; "
            "it must have a context and a continuation, or one text"
        )
    for text in arguments:
        if not isinstance(text, str):
            kind = type(text).__name__
            raise TypeError(
                f"request {number} has a {kind} among its arguments, {text!r:.60}; they must be texts"
            )
    return ("", arguments[0]) if len(arguments) == 1 else (arguments[0], arguments[1])


class CompleteLLMIndexedBatch(grain.transforms.Map):
    """Completes elements that have tokens and an index to all components of an `LLMIndexedBatch`.

    >>> complete = CompleteLLMIndexedBatch().map(
    ...     {"inputs": np.array([[1, 2]]), "targets": np.array([[2, 3]]), "idx": np.array(0)})
    >>> complete["document_idx"], complete["inputs_position"], complete["_document_borders"]
    (array([1]), array([[0, 1]]), array([[False, False]]))
    """

    @staticmethod
    def map(item: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The element with what an `LLMIndexedBatch` needs beside its tokens, and without ``idx``.

        Documents count from 1, so that 0 can mark padding; each is one
        sequence, number 0, and has no borders inside. What the element already
        has, such as segmentations, stays.

        Args:
            item: An element with ``inputs`` and ``targets``, whole numbers
                ``[rows, length]``, and ``idx``, one for each row, or a single
                number for a single row.

        Returns:
            Also ``inputs_position`` and ``targets_position`` in the tokens' dtype,
            ``document_idx`` and ``sequence_idx``, ``[rows]``, in the dtype of ``idx``,
            and ``_document_borders``, ``bool[rows, length]``.

        Raises:
            KeyError: ``inputs``, ``targets`` or ``idx`` is missing.
            ValueError: Tokens are not a matrix, or rows and indexes differ in
                number.
        """
        for key in ("inputs", "targets", "idx"):
            if key not in item:
                raise KeyError(
                    f"an element has no {key!r}; it has {sorted(item)}, "
                    "and needs 'inputs', 'targets' and 'idx'"
                )
        idx = np.atleast_1d(item["idx"])
        for key in ("inputs", "targets"):
            shape = np.shape(item[key])
            if len(shape) != 2 or shape[:1] != idx.shape:
                raise ValueError(
                    f"{key} has shape {shape}, idx {np.shape(item['idx'])}; "
                    "they must be [rows, length] and [rows]"
                )
        complete = {
            "inputs_position": _positions(item["inputs"]),
            "targets_position": _positions(item["targets"]),
            "document_idx": idx + idx.dtype.type(1),
            "sequence_idx": np.zeros_like(idx),
            "_document_borders": np.zeros(np.shape(item["inputs"]), np.bool_),
        }
        return complete | {key: value for key, value in item.items() if key != "idx"}


def _positions(tokens: NDArray[Any]) -> NDArray[Any]:
    rows, length = np.shape(tokens)
    return np.tile(np.arange(length, dtype=np.asarray(tokens).dtype), (rows, 1))
