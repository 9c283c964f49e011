"""Reports on runs and plans, as text, JSON and plots. Nothing here imports JAX or lm_eval."""
