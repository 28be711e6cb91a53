"""What nobody may do, tried in every service."""
