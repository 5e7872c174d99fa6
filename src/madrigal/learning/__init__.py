"""All that learns: optimizers, policies, critics, older selves."""
