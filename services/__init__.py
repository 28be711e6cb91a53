"""The services: one domain and one database each; they meet only in events."""
