"""``windrow score``: scores a corpus of any size, writes files, and resumes after an interruption."""

import argparse
from dataclasses import replace
from typing import Any

HELP = "score a corpus and write the scores to files; can resume after an interruption"

DESCRIPTION = """\
Score documents from JSON lines (also .gz and .zst), Parquet or ArrayRecord
files, or from folders written by datasets.save_to_disk. Documents are scored in
windows; each window gets a file with the log-likelihoods and the token, byte
and word counts of its documents. After an interruption, run the same command
again to resume."""

EXAMPLES = """\
examples:
  windrow score --model_args pretrained=/models/llama --input 'corpus/*.jsonl.gz' --output scores
  windrow score --model_args factory=my_module:make_model --input pairs.parquet \\
      --context_column question --continuation_column answer --id_column id --output scores
  zcat corpus.jsonl.gz | windrow score --model_args pretrained=/models/llama --input - --output scores
  windrow report scores"""


def add_to(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "score",
        help=HELP,
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model_args",
        required=True,
        metavar="ARGS",
        help="arguments of windrow.JaxLM as key=val,key2=val2 or JSON: pretrained, factory, dtype, "
        "max_length, tokens_per_batch, ...",
    )
    _add_input(parser)
    _add_output(parser)
    _add_hosts(parser)


def _add_input(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("documents")
    group.add_argument(
        "--input",
        required=True,
        nargs="+",
        metavar="GLOB",
        help="files, globs or folders; - is standard input",
    )
    group.add_argument("--text_column", metavar="NAME", help="column of texts to score whole (default: text)")
    group.add_argument("--context_column", metavar="NAME", help="column of contexts")
    group.add_argument("--continuation_column", metavar="NAME", help="column of continuations to score")
    group.add_argument(
        "--tokens_column",
        metavar="NAME",
        help="column of lists of token ids, each with a first token that is not scored",
    )
    group.add_argument("--id_column", metavar="NAME", help="column of ids (default: file and row)")
    group.add_argument(
        "--on_bad_request",
        choices=("skip", "raise"),
        default="skip",
        help="skip documents that cannot be scored, or stop with an error (default: skip)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("scores")
    group.add_argument("--output", required=True, metavar="FOLDER", help="folder for scores and manifest")
    group.add_argument(
        "--window", type=int, default=None, metavar="N", help="documents per file (default: 10,000)"
    )
    group.add_argument("--format", default="parquet", help="parquet (default) or jsonl")
    group.add_argument(
        "--token_logprobs", action="store_true", help="also write each token's log-probability"
    )
    group.add_argument(
        "--worst_tokens",
        type=int,
        default=0,
        metavar="N",
        help="also write each document's N least likely tokens",
    )


def _add_hosts(parser: argparse.ArgumentParser) -> None:
    from windrow.cli.run import add_hosts

    add_hosts(parser)


def execute(options: argparse.Namespace) -> int:
    """Scores the corpus, and prints a summary of the folder."""
    from windrow.scoring import keep_on_disk
    from windrow.sharding.launch import Launch, leaving_at_once

    keep_on_disk()
    launch = Launch(
        options.coordinator,
        options.process_count,
        options.process_id,
        **({"heartbeat_timeout": options.heartbeat_timeout} if "heartbeat_timeout" in options else {}),
    )
    with leaving_at_once():
        launch.start()
        _score(options)
    return 0


def farewell(options: argparse.Namespace) -> str:
    """The message after Ctrl-C."""
    done = f"the windows already written are in {options.output}"
    return f"interrupted; {done}. Run the same command again to resume"


def _score(options: argparse.Namespace) -> None:
    from windrow.corpus import Paths, check_places, score_stream
    from windrow.sharding import is_first_host

    named = {
        name: getattr(options, name)
        for name in (
            *("text_column", "context_column", "continuation_column", "tokens_column", "id_column"),
            *("format", "token_logprobs", "worst_tokens", "on_bad_request"),
        )
    }
    window = {} if options.window is None else {"window": options.window}
    check_places(Paths(options.input), options.output)
    lm = _model(options.model_args)
    report = score_stream(
        replace(lm.model, max_length=lm.max_length),
        lm.tokenizer,
        Paths(options.input),
        options.output,
        policy=lm.policy,
        sharding=lm.sharding.sharding,
        chunk_length=lm.chunk_length,
        **named,
        **window,
    )
    if is_first_host():
        print(report)


def _model(words: str) -> Any:
    """The model on this process's own devices, with batches as large as fit, unless a size is given."""
    import lm_eval.models  # noqa: F401  before windrow's harness, so that lm_eval's own models register

    from windrow.cli.repairs import model_arguments
    from windrow.cli.run import import_from_here
    from windrow.harness import JaxLM
    from windrow.sharding import own_mesh

    import_from_here()
    return JaxLM.create_from_arg_obj({"mesh": own_mesh(), **model_arguments(words)}, {"batch_size": "auto"})
