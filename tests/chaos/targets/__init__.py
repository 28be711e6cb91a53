"""What chaos can be pointed at: shipping, a sample that is as small as can be, and stock Dramatiq."""
