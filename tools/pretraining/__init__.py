"""How the starter models came to be: their corpus, tokenizer and training; no part of the package."""
