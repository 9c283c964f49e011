"""Forked states: a shared prefix runs once, and every input that begins with it starts from its state.

This works for every model with ``step``. The shared prefixes (:func:`windrow.planning.prefix_stems`) are
called stems. A stem's state is kept in a *store* on the devices until the last row that starts from it has
run.

    stems       s s s s s s s s                       runs from the empty state, is stored in slot 0
                 └ d d d d                            runs from slot 0, is stored in slot 1
    branches       └ a a   └ b b b   └ c              run from slot 1, and are scored

- :mod:`.pieces` cuts inputs into stems and branches.
- :mod:`.plan` puts the pieces into batches, ordered so that few states are alive at a time.
- :mod:`.feed` makes the batches' arrays.
- :mod:`.program` is the code that runs on the devices.
"""

from windrow.scoring.forks.feed import ForkFeed as ForkFeed
from windrow.scoring.forks.pieces import LEAST_SAVED_BY_LEVEL as LEAST_SAVED_BY_LEVEL
from windrow.scoring.forks.plan import Forking as Forking
from windrow.scoring.forks.plan import ForkPlan as ForkPlan
from windrow.scoring.forks.plan import chunk_price as chunk_price
from windrow.scoring.forks.store import most_slots as most_slots
from windrow.scoring.forks.store import refused_state as refused_state
from windrow.scoring.forks.trial import fork_trial as fork_trial
