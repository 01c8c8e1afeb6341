"""The data plane of the experience buffer: durable records, vector search, prioritised replay.

Layers, each importing only what stands below it: ``api`` → ``core`` → ``storage`` | ``index`` → ``contract``.
``buffer_service.core.ExperienceBuffer`` is usable in a script with no HTTP and no cluster.
"""
