"""How large batches are: what the caller asks for, what fits, and the largest size that does.

- :mod:`.policy`: the caller's settings, and the plan that follows if they name a size.
- :mod:`.memory`: how much memory the devices have, and how much a compiled program needs.
- :mod:`.search`: the largest size that fits, found by trying few.
- :mod:`.batches`: that search for scoring, over batches of a plan.
- :mod:`.slots`: that search for generation, over slots that hold a row's cache.

Planning needs the policy alone, so nothing here is imported by the package itself: the others need JAX.
"""
