"""Engines: what makes policies answer prompts. Tokens in, tokens and log-probs out."""
