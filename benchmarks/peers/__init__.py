"""Other systems that take the same appends, each as fast as it is without giving up durability."""
