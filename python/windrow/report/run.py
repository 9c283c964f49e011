"""The report of a run: :meth:`windrow.JaxLM.report`, and the time of the whole command.

The phases do not overlap. While the devices run, the host prepares the next batches; only time in which the
devices are idle is charged to the compiler or to the host.
"""

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

PHASES = ("tokenize", "plan", "compile", "host", "device", "other")
"""The parts of a run's time: ``device`` while devices run, ``compile`` and ``host`` while they are idle."""

OTHER = "start-up, loading the model, building requests, metrics"
"""What takes the time outside all other phases."""


def make_report(run: dict[str, Any], model: str, total: float, command: Sequence[str]) -> dict[str, Any]:
    """A report, ready for JSON.

    Args:
        run: The result of :meth:`windrow.JaxLM.report`.
        model: The source of the model.
        total: Seconds of the whole command.
        command: The arguments after ``windrow run``.

    Returns:
        ``windrow``, ``jax`` and ``lm_eval`` (versions), ``date``, ``command``,
        ``model``, ``devices``; ``requests``, ``segments``, ``rows``, ``batches``,
        ``shared``, ``truncated``, ``skipped``; ``tokens``: ``real`` (all requests'
        inputs), ``rows`` (those that were computed), ``padding``, ``device`` (the sum
        of the last two); ``shapes``, ``[rows, length]`` each; ``seconds``: ``total``
        and its parts, see `PHASES`; ``tokens_per_second``: ``scored`` (real tokens per
        second of scoring), ``device`` (device tokens per second of device time) and
        ``generated``; ``generation``, if texts were generated; ``auto``, if batches
        were sized to memory.
    """
    host, device = run["seconds"], run["device_seconds"]
    scoring, generation = device["scoring"], device["generation"]
    seconds = {
        "tokenize": host.get("tokenize", 0.0),
        "plan": host.get("plan", 0.0),
        "compile": scoring["waiting_for_compiler"] + generation["waiting_for_compiler"],
        "host": scoring["waiting_for_host"] + generation["waiting_for_host"],
        "device": scoring["running"] + generation["running"],
    }
    generated = run.get("generation", {}).get("generated_tokens", 0)
    return {
        "windrow": version("windrow"),
        "jax": version("jax"),
        "lm_eval": version("lm-eval"),
        "date": datetime.now().isoformat(timespec="seconds"),
        "command": list(command),
        "model": model,
        "devices": run["devices"],
        **{
            name: run[name]
            for name in ("requests", "segments", "rows", "batches", "shared", "truncated", "skipped")
        },
        "tokens": {
            "real": run["real_tokens"],
            "rows": run["row_tokens"],
            "padding": run["padding_tokens"],
            "device": run["device_tokens"],
        },
        "shapes": run["shapes"],
        "seconds": {"total": total, **seconds, "other": max(0.0, total - sum(seconds.values()))},
        "tokens_per_second": {
            "scored": _rate(run["real_tokens"], sum(scoring.values())),
            "device": _rate(run["device_tokens"], scoring["running"]),
            "generated": _rate(generated, sum(generation.values())),
        },
        **({"generation": run["generation"]} if generated else {}),
        **({"auto": run["auto"]} if run.get("auto") else {}),
    }


def summary(report: dict[str, Any]) -> str:
    """The report as text that fits on one screen."""
    seconds, devices = report["seconds"], report["devices"]
    hosts = f" on {devices['hosts']} hosts" if devices["hosts"] > 1 else ""
    lines = [
        f"windrow     {report['model']}, {devices['count']} × {devices['kind']}{hosts}, "
        f"{seconds['total']:.1f} s in total",
        *figures(report, PHASES),
        f"            other is {OTHER}",
    ]
    return "\n".join(lines)


def figures(report: dict[str, Any], phases: Sequence[str]) -> list[str]:
    """One line per figure, with the seconds of these phases; names take twelve columns."""
    return [
        f"requests    {report['requests']:,}: {report['shared']:,} deduplicated, "
        f"{report['truncated']:,} truncated, {report['skipped']:,} skipped",
        *(_scoring(report) if report["rows"] else []),
        *(_generation(report) if "generation" in report else []),
        *(_auto(report["auto"]) if "auto" in report else []),
        "seconds     " + ", ".join(f"{name} {report['seconds'][name]:.2f}" for name in phases),
    ]


def _scoring(report: dict[str, Any]) -> list[str]:
    tokens, speed = report["tokens"], report["tokens_per_second"]
    return [
        f"tokens      {tokens['real']:,} real, {tokens['device']:,} on the device "
        f"({tokens['device'] / max(1, tokens['real']):.2f} per real token), "
        f"{tokens['padding'] / max(1, tokens['device']):.1%} of them padding",
        f"shapes      {len(report['shapes'])} in {_batches(report['batches'])}: {_shapes(report['shapes'])}",
        f"speed       {speed['scored']:,.0f} real tokens/s end to end, "
        f"{speed['device']:,.0f} device tokens/s while the device runs",
    ]


def _generation(report: dict[str, Any]) -> list[str]:
    texts, speed = report["generation"], report["tokens_per_second"]["generated"]
    return [
        f"generation  {texts['requests']:,} texts: {texts['prompt_tokens']:,} prompt tokens, "
        f"{texts['generated_tokens']:,} generated, {speed:,.0f} tokens/s; "
        f"{texts['slots']} slots, {texts['slot_use']:.0%} in use; {texts['programs']} programs",
    ]


def _auto(chosen: dict[str, Any]) -> list[str]:
    lines = []
    for kind, choice in chosen.items():
        size = (
            f"{choice['tokens_per_batch']:,} tokens per batch"
            if "tokens_per_batch" in choice
            else f"{choice['slots']:,} slots"
        )
        predicted, budget = (choice[name] / 2**20 for name in ("predicted_bytes", "memory_budget"))
        lines.append(f"auto        {kind}: {size}, which need {predicted:,.0f} of {budget:,.0f} MiB")
    return lines


def _batches(number: int) -> str:
    return f"{number:,} batch{'es' * (number != 1)}"


def _shapes(shapes: list[list[int]], most: int = 8) -> str:
    shown = ", ".join(f"{rows}×{length}" for rows, length in shapes[:most])
    return shown + (f" and {len(shapes) - most} more" if len(shapes) > most else "")


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0
