"""Passages found for questions: documents, chunks, legs (lexical, dense, late), fusion, metrics."""
