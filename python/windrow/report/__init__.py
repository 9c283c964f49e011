"""Reports: what a run did, how a plan would batch, in words, as JSON and as pictures.

Nothing here knows JAX or lm_eval.
"""
