"""Answer quality beside clicks: measured on embeddings, by likelihoods, or graded by a language model."""
