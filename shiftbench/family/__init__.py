"""One base and several tuned models: their findings prompt set by prompt set, as a chain or as mixtures."""
