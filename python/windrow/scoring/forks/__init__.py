"""Runs plans of forked states (:mod:`windrow.forks`).

- :mod:`.feed` fills the batches' arrays and keeps the store.
- :mod:`.program` has the traced functions.
- :mod:`.store` determines how many states fit in a store.
- :mod:`.trial` tests a model's states on a small plan before a run.
"""

from windrow.scoring.forks.feed import ForkFeed as ForkFeed
from windrow.scoring.forks.store import most_slots as most_slots
from windrow.scoring.forks.store import refused_state as refused_state
from windrow.scoring.forks.trial import fork_trial as fork_trial
