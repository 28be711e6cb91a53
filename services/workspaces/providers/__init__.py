"""Third parties of workspaces, a module each; only jobs may import them."""
