"""From what was observed to the actions that bring it nearer to what is wanted. Pure."""
