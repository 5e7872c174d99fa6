"""Writing together: summaries of posts (tldr) and introductions from abstracts (arxiv)."""
