"""A run's report: what :meth:`windrow.JaxLM.report` tells, beside the time that all of it took.

The seconds are parts of the whole that do not overlap. While devices run, the host
prepares what comes next: only the time in which they have nothing to do is charged
to the compiler or to the host.
"""

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

PHASES = ("tokenizing", "planning", "compiling", "waiting_for_host", "running", "else")
"""The parts of a run's time. ``else`` is start-up, loading the model, building requests, metrics."""


def make_report(told: dict[str, Any], model: str, total: float, command: Sequence[str]) -> dict[str, Any]:
    """A report, fit for JSON.

    Args:
        told: What :meth:`windrow.JaxLM.report` gives.
        model: Where the model came from.
        total: Seconds that the whole command took.
        command: The words after ``windrow run``.

    Returns:
        ``windrow``, ``jax`` and ``lm_eval`` (versions), ``date``, ``command``,
        ``model``, ``devices``; ``requests``, ``segments``, ``rows``, ``batches``,
        ``shared``, ``truncated``, ``skipped``; ``tokens``: ``real`` (of every
        request's input), ``rows`` (those that were computed), ``padding``,
        ``device`` (the last two together); ``shapes``, ``[rows, length]`` each;
        ``seconds``: ``total`` and its parts, see `PHASES`; ``tokens_per_second``:
        real tokens scored a second from tokens to scores, device tokens a second
        of running, tokens generated a second; ``generation``, where texts were
        generated.
    """
    host, device = told["seconds"], told["device_seconds"]
    scoring, generation = device["scoring"], device["generation"]
    seconds = {
        "tokenizing": host.get("tokenize", 0.0),
        "planning": host.get("plan", 0.0),
        "compiling": scoring["waiting_for_compiler"] + generation["waiting_for_compiler"],
        "waiting_for_host": scoring["waiting_for_host"] + generation["waiting_for_host"],
        "running": scoring["running"] + generation["running"],
    }
    generated = told.get("generation", {}).get("generated_tokens", 0)
    return {
        "windrow": version("windrow"),
        "jax": version("jax"),
        "lm_eval": version("lm-eval"),
        "date": datetime.now().isoformat(timespec="seconds"),
        "command": list(command),
        "model": model,
        "devices": told["devices"],
        **{
            name: told[name]
            for name in ("requests", "segments", "rows", "batches", "shared", "truncated", "skipped")
        },
        "tokens": {
            "real": told["real_tokens"],
            "rows": told["row_tokens"],
            "padding": told["padding_tokens"],
            "device": told["device_tokens"],
        },
        "shapes": told["shapes"],
        "seconds": {"total": total, **seconds, "else": max(0.0, total - sum(seconds.values()))},
        "tokens_per_second": {
            "scored": _rate(told["real_tokens"], sum(scoring.values())),
            "device": _rate(told["device_tokens"], scoring["running"]),
            "generated": _rate(generated, sum(generation.values())),
        },
        **({"generation": told["generation"]} if generated else {}),
    }


def summary(report: dict[str, Any]) -> str:
    """The report on one screen."""
    seconds, devices = report["seconds"], report["devices"]
    hosts = f" on {devices['hosts']} hosts" if devices["hosts"] > 1 else ""
    lines = [
        f"windrow     {report['model']}, {devices['count']} × {devices['kind']}{hosts}, "
        f"{seconds['total']:.1f} s in all",
        f"requests    {report['requests']:,}: {report['shared']:,} share another's row, "
        f"{report['truncated']:,} truncated, {report['skipped']:,} skipped",
        *(_scoring(report) if report["rows"] else []),
        *(_generation(report) if "generation" in report else []),
        "seconds     " + ", ".join(f"{name.replace('_', ' ')} {seconds[name]:.2f}" for name in PHASES),
    ]
    if seconds["compiling"] > max(10.0, seconds["running"]):
        lines.append(
            "            set JAX_COMPILATION_CACHE_DIR=FOLDER to keep what was compiled for the next run"
        )
    return "\n".join(lines)


def _scoring(report: dict[str, Any]) -> list[str]:
    tokens, speed = report["tokens"], report["tokens_per_second"]
    return [
        f"tokens      {tokens['real']:,} real, {tokens['device']:,} on the device "
        f"({tokens['device'] / max(1, tokens['real']):.2f} each), "
        f"{tokens['padding'] / max(1, tokens['device']):.1%} of them padding",
        f"shapes      {len(report['shapes'])}, batches {report['batches']:,}: {_shapes(report['shapes'])}",
        f"speed       {speed['scored']:,.0f} real tokens/s from tokens to scores, "
        f"{speed['device']:,.0f} device tokens/s while running",
    ]


def _generation(report: dict[str, Any]) -> list[str]:
    told = report["generation"]
    return [
        f"generation  {told['requests']:,} texts: {told['prompt_tokens']:,} tokens read, "
        f"{told['generated_tokens']:,} made, {report['tokens_per_second']['generated']:,.0f} a second; "
        f"{told['slots']} slots, {told['slot_use']:.0%} in use; {told['programs']} programs",
    ]


def _shapes(shapes: list[list[int]], most: int = 8) -> str:
    shown = ", ".join(f"{rows}×{length}" for rows, length in shapes[:most])
    return shown + (f" and {len(shapes) - most} more" if len(shapes) > most else "")


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0
