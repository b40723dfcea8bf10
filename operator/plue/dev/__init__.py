"""What authors and tests try Plue with: servers that stand in for what costs money."""
