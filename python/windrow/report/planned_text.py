"""The text of ``windrow plan``."""

from typing import Any

RIVALS = {
    "plan": "this plan",
    "trees": "in tree rows, for models that take reach",
    "forks": "with forked states, for models that have step",
    "arrival_order": "arrival order, padded to the longest row",
    "lm_eval": "lm-eval's own backend (sorted, equal inputs once)",
    "reference": "sorted, padded to multiples of 128 (xlstm-jax)",
}
"""This plan and the alternatives; each batch is padded separately."""

OURS = ("trees", "forks")
"""The alternatives that windrow itself chooses for models that can use them."""


def difference(plan: dict[str, Any], rival: dict[str, Any]) -> str:
    """How a plan differs from an alternative.

    >>> rival = {"saved": 0.25, "shapes": 168}
    >>> difference({"shapes": 8}, rival), difference({"shapes": 8}, {"saved": -0.09, "shapes": 8})
    ('25% fewer tokens, 160 fewer compilations', '9% more tokens')
    >>> difference({"shapes": 8}, {"saved": -0.001, "shapes": 9})
    'slightly more tokens, 1 fewer compilation'
    """
    saved, shapes = rival["saved"], rival["shapes"] - plan["shapes"]
    part = f"{abs(saved):.0%}" if abs(saved) >= 0.005 else "slightly" if saved else "no"
    words = [f"{part} {'fewer' if saved > 0 else 'more'} tokens"]
    if shapes:
        words.append(counted(abs(shapes), f"{'fewer' if shapes > 0 else 'more'} compilation"))
    return ", ".join(words)


def counted(number: int, thing: str) -> str:
    """A number of things.

    >>> counted(1, "shape"), counted(1200, "shape")
    ('1 shape', '1,200 shapes')
    """
    return f"{number:,} {thing}{'s' * (number != 1)}"


def describe(report: dict[str, Any]) -> str:
    """The text of a plan's report.

    Args:
        report: The result of :func:`windrow.cli.plan.make_plan_report`.
    """
    limit = report["max_length"]
    lines = [
        f"Plan for {', '.join(report['tasks'])} with the tokenizer {report['tokenizer']}",
        f"{_rows(report['policy'])}, at most {limit or 'any number of'} tokens per row "
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
        f"{policy['batch_size']} rows per batch"
        if policy["batch_size"] is not None
        else f"{policy['tokens_per_batch']:,} tokens per batch"
        if policy["tokens_per_batch"] is not None
        else "8,192 tokens per batch, or one row per device if that is more"
    )
    packed = ", packed" if policy["pack"] else ""
    return f"{rows}, at most {policy['max_shapes']} shapes{packed}"


def _scored(figures: dict[str, Any]) -> list[str]:
    tokens = figures["tokens"]
    extra = f" and {figures['shifted_reads']:,} shifted reads" if figures["shifted_reads"] else ""
    counts = f"{figures['requests']:,} requests, {figures['segments']:,} segments{extra}"
    return [
        f"{figures['request_type']}: {counts}",
        f"  {figures['shared']:,} deduplicated, {figures['truncated']:,} truncated, "
        f"{figures['skipped']:,} cannot be scored",
        f"  {tokens['real']:,} real tokens, {tokens['device']:,} on the device "
        f"({tokens['device'] / max(1, tokens['real']):.2f} per real token), "
        f"{tokens['padding'] / max(1, tokens['device']):.1%} of them padding",
        f"  {figures['batches']:,} batches in {counted(len(figures['shapes']), 'shape')}",
        f"  {'rows × length':>18}{'batches':>10}{'padding':>10}",
        *(
            f"  {shape['rows']:>9,} × {shape['length']:<6,}{shape['batches']:>10,}"
            f"{shape['padding'] / (shape['rows'] * shape['length'] * shape['batches']):>10.1%}"
            for shape in figures["shapes"]
        ),
        *(_trees(figures) if figures["trees"] else ()),
    ]


def _trees(figures: dict[str, Any]) -> list[str]:
    trees, real = figures["trees"], max(1, figures["tokens"]["real"])
    saved, tokens, forked = trees["saved"], trees["tokens"], figures["forks"]["device_tokens"]
    shapes = ", ".join(f"{shape['rows']:,} × {shape['length']:,}" for shape in trees["shapes"])
    return [
        f"  saved by equal inputs {saved['equal_inputs']:,} tokens ({saved['equal_inputs'] / real:.1%}), "
        f"by shared prefixes {saved['shared_prefixes']:,} more ({saved['shared_prefixes'] / real:.1%})",
        f"  {RIVALS['trees']}: {tokens['device']:,} tokens on the device "
        f"({tokens['device'] / real:.2f} per real token), {tokens['repeated']:,} of them repeated prefixes",
        f"  {trees['rows']:,} tree rows, {trees['batches']:,} batches of {shapes}",
        f"  {RIVALS['forks']}: {forked:,} tokens on the device ({forked / real:.2f} per real token)",
    ]


def _compared(report: dict[str, Any]) -> list[str]:
    rows = sorted({figures["rival_rows"] for figures in report["scored"]})
    plan, *rivals = report["compared"]
    lines = [f"{'':52}{'device tokens':>14}{'per real token':>16}{'shapes':>8}"]
    lines += [
        f"{RIVALS[cost['name']]:52}{cost['device_tokens']:>14,}{cost['per_real_token']:>16.2f}"
        f"{cost['shapes']:>8,}"
        for cost in (plan, *rivals)
    ]
    lines += [f"Compared with batches of {' or '.join(map(str, rows))} rows, this plan needs"]
    for cost in rivals:
        lines.append(f"  {difference(plan, cost)} than {RIVALS[cost['name']]}")
    lines += [f"With each compilation counted as {report['shape_price']:,} tokens, this plan saves"]
    for cost in rivals:
        if cost["name"] not in OURS:
            lines.append(f"  {cost['saved_with_compilations']:.0%} of {RIVALS[cost['name']]}")
    return lines


def _generated(figures: dict[str, Any]) -> list[str]:
    return [
        f"generate_until: {figures['requests']:,} requests, {figures['prompt_tokens']:,} prompt tokens, "
        f"at most {figures['most_new_tokens']:,} new tokens",
        f"  {figures['truncated']:,} truncated, {figures['skipped']:,} cannot be generated; "
        "prompts take slots as they become free, so there is no plan",
    ]
