"""What adapting an image model to real videos brings, set by set: kept features, baselines, cells, table."""
