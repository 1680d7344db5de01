"""Labels on frozen features: neighbours, linear and attentive heads, few labels, and the whole encoder tuned."""
