"""What is rendered or simulated: moving sprites, sequences of known latents, the small CLIP."""
