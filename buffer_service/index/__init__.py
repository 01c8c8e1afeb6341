"""The vector index: immutable generations (main), what came after them (delta), what left since (tombstones).

Nothing here knows of records; a row is an id and a vector. Only this layer imports FAISS.
"""
