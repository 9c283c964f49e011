"""Forked states: a shared prefix runs once, and every input that begins with it starts from its state.

This works for every model with ``step``. A shared prefix that runs once is called a *stem*
(:func:`windrow.planning.prefix_stems`); what follows it in an input is a *branch*. A stem's state stays in a
*store* on the devices until the last row that starts from it has run.

    stems       s s s s s s s s                       starts from the empty state, stored in slot 0
                 └ d d d d                            starts from slot 0, stored in slot 1
    branches       └ a a   └ b b b   └ c              start from slot 1, and are scored

- :mod:`.pieces` cuts inputs into stems and branches.
- :mod:`.waves` assigns stems and branches to groups and waves, and states to slots.
- :mod:`.shapes` and :mod:`.batches` put stems and branches into batches of a few shapes.
- :mod:`.plan` chooses the shapes, and lists the batches in the order in which they run.

Plans need no model and no JAX. :mod:`windrow.scoring.forks` runs them.
"""

from windrow.forks.pieces import LEAST_SAVED_BY_LEVEL as LEAST_SAVED_BY_LEVEL
from windrow.forks.plan import Forking as Forking
from windrow.forks.plan import ForkPlan as ForkPlan
from windrow.forks.shapes import chunk_price as chunk_price
