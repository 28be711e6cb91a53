"""What ERPs and we say to each other: who it is, what it brings, and what is kept of it."""
