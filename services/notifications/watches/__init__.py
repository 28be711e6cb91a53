"""Watches: what members want to be told of, as rules that a language model writes once and no model checks."""
