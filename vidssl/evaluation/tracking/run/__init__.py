"""``vidssl track``: sequences → every row of a task (encoder and baselines) → scores, a result, pictures."""
