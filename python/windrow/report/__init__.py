"""Reports on runs and plans, as text, JSON and pictures. Nothing here imports JAX or lm_eval."""
