"""The life cycle of an item."""
