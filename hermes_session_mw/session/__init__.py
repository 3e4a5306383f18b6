"""What one request holds of its conversation."""
