"""A planned evaluation on one screen."""

from typing import Any

RIVALS = {
    "plan": "this plan",
    "arrival_order": "arrival order, each batch padded to its longest",
    "lm_eval": "lm_eval's own: sorted, each padded to its longest",
    "reference": "the reference: sorted, padded to multiples of 128",
}


def describe(report: dict[str, Any]) -> str:
    """What ``windrow plan`` found, as lines of text.

    Args:
        report: What :func:`windrow.cli.plan.make_plan_report` gives.
    """
    limit = report["max_length"]
    lines = [
        f"Plan of {', '.join(report['tasks'])} with the tokenizer {report['tokenizer']}",
        f"{_rows(report['policy'])}, at most {limit or 'any number of'} tokens a row "
        f"({report['max_length_from']})",
    ]
    for figures in report["scored"]:
        lines += ["", *_scored(figures)]
    if report["compared"]:
        lines += ["", *_compared(report)]
    if report["generated"] is not None:
        lines += ["", *_generated(report["generated"])]
    return "\n".join(lines)


def _rows(policy: dict[str, Any]) -> str:
    rows = (
        f"{policy['batch_size']} rows a batch"
        if policy["batch_size"] is not None
        else f"{policy['tokens_per_batch']:,} tokens a batch"
        if policy["tokens_per_batch"] is not None
        else "as many rows a batch as fit"
    )
    packed = ", several segments to a row" if policy["pack"] else ""
    return f"{rows}, at most {policy['max_shapes']} shapes{packed}"


def _scored(figures: dict[str, Any]) -> list[str]:
    tokens = figures["tokens"]
    extra = f" and {figures['shifted_reads']:,} shifted reads" if figures["shifted_reads"] else ""
    counts = f"{figures['requests']:,} requests, {figures['segments']:,} segments{extra}"
    return [
        f"{figures['request_type']}: {counts}",
        f"  {figures['shared']:,} share another's row, {figures['truncated']:,} truncated, "
        f"{figures['skipped']:,} cannot be scored",
        f"  {tokens['real']:,} real tokens, {tokens['device']:,} on the device "
        f"({tokens['device'] / max(1, tokens['real']):.2f} each), "
        f"{tokens['padding'] / max(1, tokens['device']):.1%} of them padding",
        f"  {figures['batches']:,} batches in {len(figures['shapes'])} shapes",
        f"  {'rows × length':>18}{'batches':>10}{'padding':>10}",
        *(
            f"  {shape['rows']:>9,} × {shape['length']:<6,}{shape['batches']:>10,}"
            f"{shape['padding'] / (shape['rows'] * shape['length'] * shape['batches']):>10.1%}"
            for shape in figures["shapes"]
        ),
    ]


def _compared(report: dict[str, Any]) -> list[str]:
    rows = sorted({figures["rival_rows"] for figures in report["scored"]})
    lines = [f"{'':51}{'device tokens':>14}{'each':>7}{'shapes':>8}{'saved':>8}{'saved*':>8}"]
    for cost in report["compared"]:
        saved = (
            ""
            if cost["name"] == "plan"
            else (f"{cost['saved']:>8.0%}{cost['saved_with_compilations']:>8.0%}")
        )
        lines.append(
            f"{RIVALS[cost['name']]:51}{cost['device_tokens']:>14,}{cost['per_real_token']:>7.2f}"
            f"{cost['shapes']:>8,}{saved}"
        )
    return [
        *lines,
        f"Rivals have batches of {' or '.join(map(str, rows))} rows. Saved: device time, if it goes with "
        "tokens on the device;",
        f"* with each compilation counted as {report['shape_price']:,} tokens.",
    ]


def _generated(figures: dict[str, Any]) -> list[str]:
    return [
        f"generate_until: {figures['requests']:,} requests, {figures['prompt_tokens']:,} tokens to read, "
        f"at most {figures['most_new_tokens']:,} to make",
        f"  {figures['truncated']:,} truncated, {figures['skipped']:,} cannot be generated; "
        "rows come and go while it runs, so nothing is planned ahead",
    ]
