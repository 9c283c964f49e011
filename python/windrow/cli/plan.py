"""``windrow plan``: shows how tasks would be batched, without a model or an accelerator."""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

HELP = "show how tasks would be batched, without a model"


def add_to(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser("plan", help=HELP, description=f"{HELP[0].upper()}{HELP[1:]}.")
    add = parser.add_argument
    add(
        "--tasks",
        "-t",
        nargs="+",
        required=True,
        metavar="TASK",
        help="names of tasks or groups, or patterns",
    )
    add(
        "--tokenizer",
        required=True,
        metavar="SOURCE",
        help="a tokenizer.json, a model directory, or a name on the Hugging Face Hub",
    )
    add("--include_path", "--include-path", metavar="DIR", help="directory with your own task files")
    add(
        "--limit",
        "-L",
        type=float,
        metavar="N",
        help="number of documents per task, or the fraction if below 1",
    )
    add("--num_fewshot", "--num-fewshot", "-f", type=int, metavar="N", help="number of few-shot examples")
    add(
        "--apply_chat_template",
        "--apply-chat-template",
        action="store_true",
        help="format prompts with the chat template",
    )
    add("--system_instruction", "--system-instruction", metavar="TEXT", help="system prompt")
    add(
        "--max_length",
        "--max-length",
        metavar="N",
        help="longest input in tokens, or unbounded (default: from the model's files)",
    )
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--batch_size", "--batch-size", "-b", type=int, metavar="ROWS", help="rows per batch")
    rows.add_argument(
        "--tokens_per_batch",
        "--tokens-per-batch",
        type=int,
        metavar="N",
        help="maximum tokens per batch, padding included (default: 8192)",
    )
    add(
        "--max_shapes",
        "--max-shapes",
        type=int,
        default=8,
        metavar="N",
        help="maximum number of padded lengths (default: 8)",
    )
    add(
        "--padding_multiple",
        "--padding-multiple",
        type=int,
        default=1,
        metavar="N",
        help="pad to a multiple of N tokens (default: 1)",
    )
    add(
        "--share",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let requests with equal inputs share a row (default: yes)",
    )
    add("--pack", action="store_true", help="pack several requests into one row")
    add(
        "--devices",
        type=int,
        default=1,
        metavar="N",
        help="number of devices that rows are split across (default: 1)",
    )
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    add(
        "--plot",
        type=Path,
        metavar="FILE",
        help="plot lengths, padding and other policies to FILE.svg or FILE.png",
    )


def execute(options: argparse.Namespace) -> int:
    """Plans, prints, and writes the requested files."""
    _check(options)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from windrow.report.planned_text import describe

    report, planned = make_plan_report(options)
    print(describe(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.plot is not None:
        from windrow.report.pictures import save
        from windrow.report.plan_picture import draw_plan

        save(draw_plan(report, planned), options.plot)
    return 0


def make_plan_report(options: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    """All figures, ready for JSON, and the plans they were made from."""
    from windrow.cli.tasks import requests_of
    from windrow.report.planned import compare
    from windrow.sizing.policy import BatchPolicy
    from windrow.tokens import load_tokenizer

    tokenizer = load_tokenizer(options.tokenizer)
    limit, limit_from = length_limit(options.max_length, options.tokenizer, tokenizer)
    policy = BatchPolicy(
        batch_size=options.batch_size,
        tokens_per_batch=options.tokens_per_batch,
        max_shapes=options.max_shapes,
        padding_multiple=options.padding_multiple,
        share=options.share,
        pack=options.pack,
    )
    requests = requests_of(
        options.tasks,
        tokenizer,
        include_path=options.include_path,
        limit=options.limit,
        num_fewshot=options.num_fewshot,
        apply_chat_template=options.apply_chat_template,
        system_instruction=options.system_instruction,
    )
    planned = _planned(requests, tokenizer, limit, policy, options.devices)
    report = {
        "tasks": [part for name in options.tasks for part in name.split(",") if part],
        "tokenizer": tokenizer.name,
        "max_length": limit,
        "max_length_from": limit_from,
        "policy": {
            "batch_size": options.batch_size,
            "tokens_per_batch": options.tokens_per_batch,
            "max_shapes": options.max_shapes,
            "padding_multiple": options.padding_multiple,
            "share": options.share,
            "pack": options.pack,
            "devices": options.devices,
        },
        "scored": [each.figures() for each in planned],
        "compared": compare(planned) if planned else [],
        "shape_price": planned[0].plan.to_dict()["policy"]["shape_price"] if planned else None,
        "generated": _generated(requests.get("generate_until"), tokenizer, limit),
    }
    return report, planned


def length_limit(given: str | None, source: str, tokenizer: Any) -> tuple[int | None, str]:
    """The maximum number of tokens in a row, and where that number comes from.

    Raises:
        ValueError: ``given`` is neither a whole number above 0 nor ``"unbounded"``.
    """
    from windrow.admission import read_whole
    from windrow.models.config import DEFAULT_MAX_LENGTH, read_json, stated_max_length

    if given == "unbounded":
        return None, "from --max_length"
    if given is not None:
        return read_whole("--max_length", given, also=" or unbounded"), "from --max_length"
    config = (Path(source) if Path(source).is_dir() else Path(source).parent) / "config.json"
    if config.is_file() and (stated := stated_max_length(read_json(config))) is not None:
        return stated, f"from {config}"
    if tokenizer.model_max_length is not None:
        return tokenizer.model_max_length, "from the tokenizer"
    return DEFAULT_MAX_LENGTH, "the default; set it with --max_length"


def _check(options: argparse.Namespace) -> None:
    from windrow.report.pictures import require_format

    for name in ("batch_size", "tokens_per_batch", "max_shapes", "padding_multiple", "devices"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}")
    if options.limit is not None and options.limit <= 0:
        raise ValueError(f"--limit must be above 0, not {options.limit:g}")
    if options.batch_size is not None and options.batch_size % options.devices:
        raise ValueError(
            f"--batch_size is {options.batch_size}; it must be a multiple of --devices, {options.devices}"
        )
    if options.plot is not None:
        require_format("--plot", options.plot)
    for path in (options.json, options.plot):
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"{str(path)!r} cannot be written: its directory does not exist")


def _planned(
    requests: dict[str, list[Any]], tokenizer: Any, limit: int | None, policy: Any, devices: int
) -> list[Any]:
    """The plans of scored requests, as :class:`~windrow.JaxLM` makes them."""
    from windrow.grouping import with_shifted_reads
    from windrow.report.planned import PlannedRequests
    from windrow.tokens import loglikelihood_segments, rolling_segments

    planned = []
    if pairs := requests.get("loglikelihood"):
        own = loglikelihood_segments(tokenizer, pairs, max_length=limit, on_bad_request="skip")
        segments, _ = with_shifted_reads(
            own, lambda which: loglikelihood_segments(tokenizer, [pairs[index] for index in which])
        )
        firsts = None
        if own.report.truncated:
            whole = loglikelihood_segments(tokenizer, [pairs[index] for index in own.requests])
            firsts = whole.equal_inputs
        planned.append(PlannedRequests.of("loglikelihood", own, segments, policy, devices, firsts))
    if texts := requests.get("loglikelihood_rolling"):
        own = rolling_segments(
            tokenizer, [text for (text,) in texts], max_length=limit, on_bad_request="skip"
        )
        planned.append(PlannedRequests.of("loglikelihood_rolling", own, own, policy, devices))
    return planned


def _generated(requests: list[Any] | None, tokenizer: Any, limit: int | None) -> dict[str, int] | None:
    if not requests:
        return None
    from windrow.tokens import generation_prompts

    new = [_most_new_tokens(keywords) for _, keywords in requests]
    prompts = generation_prompts(
        tokenizer,
        [context for context, _ in requests],
        max_new_tokens=new,
        max_length=limit,
        on_bad_request="skip",
    )
    return {
        "requests": len(requests),
        "prompt_tokens": len(prompts.tokens),
        "most_new_tokens": sum(new),
        "truncated": len(prompts.report.truncated),
        "skipped": len(prompts.skipped),
    }


def _most_new_tokens(keywords: dict[str, Any]) -> int:
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    return next((int(keywords[name]) for name in names if keywords.get(name) is not None), 256)
