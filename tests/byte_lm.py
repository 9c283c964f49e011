"""A byte-level JaxLM, and lm_eval requests for it."""

from lm_eval.api.instance import Instance

from byte_tokenizer import ByteTokenizer
from small_model import head, hidden, prefix_model
from windrow.harness import JaxLM


def byte_lm(**arguments):
    arguments = {"model": prefix_model(256, hidden=hidden, head=head, max_length=64), **arguments}
    return JaxLM(tokenizer=ByteTokenizer(), prefix_token_id=0, **arguments)


def requests_of(request_type, *arguments):
    return [Instance(request_type, {}, args, index) for index, args in enumerate(arguments)]


def named_requests(request_type, *arguments):
    """Requests of the task "animals", with document ids from 10 on."""
    return [
        Instance(request_type, {}, args, index, ("animals", 10 + index, 1))
        for index, args in enumerate(arguments)
    ]
