"""Words to concept vectors: names, prompts and their files, and the spaces that a text encoder makes of them."""
