"""Tables and charts that several profiles share."""
