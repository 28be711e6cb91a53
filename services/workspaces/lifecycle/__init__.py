"""The life of a subscription: what Paddle says of it, what follows for the workspace, and when."""
