"""What every service has in common. It knows no business words."""
