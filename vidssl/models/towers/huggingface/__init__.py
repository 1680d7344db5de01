"""Models of transformers as video encoders: from a folder or the hub, safetensors only, no code of theirs."""
