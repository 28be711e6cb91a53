"""What embedded mode brings along in place of installed servers."""
