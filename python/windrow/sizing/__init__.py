"""Determines batch sizes, from the caller's settings and the available memory.

- :mod:`.policy`: the caller's settings, and the plan if they include a size.
- :mod:`.memory`: the memory of the devices, and the memory that a compiled program needs.
- :mod:`.search`: the search for the largest size that fits, in few attempts.
- :mod:`.batches`: the search for scoring, over batches of a plan.
- :mod:`.slots`: the search for generation, over slots that hold a row's cache.

Planning needs only the policy. This package imports none of its modules itself, because the others need JAX.
"""
