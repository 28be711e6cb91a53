"""Third parties of notifications, a module each; only jobs may import them."""
