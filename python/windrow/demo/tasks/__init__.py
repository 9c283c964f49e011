"""lm_eval tasks over the made-up countryside; every task file in this folder is run by the demo."""
