"""One look at the world: API objects and what the pods say, typed."""
