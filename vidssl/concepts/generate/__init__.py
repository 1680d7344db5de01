"""Words about actions from a language model: what is asked, judged and stored."""
